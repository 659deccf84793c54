"""The frames of a video: their order, smoothing, and a GIF of skeletons that turn."""
import re
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from common.charts import bone_colours, draw_bones
from common.detector import People
from common.files import atomic

WINDOW = 9  # frames of the moving average: jitter falls from 35 to 4 mm/frame^2
TURN = 48   # pictures of a GIF in which a skeleton turns once


def frame_numbers(people: People) -> np.ndarray:
    """Return the frame (N,) of each row, from 0: by the last number in its name, so that frames
    without anyone count; if that cannot be, by the order of the names.

    Raises ValueError if a person is twice in a frame, or if people have ids but no frames.
    """
    frames, ids = people.frames, people.ids
    if len(set(zip(frames, ids))) < len(frames):
        raise ValueError('--fps: found several people in a frame, expected one, or an id of each '
                         'person (track_id, person_id or idx)')
    if len(set(ids)) > 1 and frames == list(range(len(frames))):
        raise ValueError('--fps: found ids of several people, but no two in a frame, expected '
                         'image_id or frame_id too')
    parts = {frame: re.split(r'(\d+)', Path(str(frame)).stem) for frame in frames}
    if all(len(part) > 1 for part in parts.values()):
        number = {frame: int(part[-2]) for frame, part in parts.items()}
        span = max(number.values()) - min(number.values())
        if len(set(number.values())) == len(number) and span < 10 * len(number):
            return np.array([number[frame] for frame in frames]) - min(number.values())
    order = sorted(parts, key=lambda frame: [
        int(part) if part.isdigit() else part for part in parts[frame]])
    place = {frame: row for row, frame in enumerate(order)}
    return np.array([place[frame] for frame in frames])


def smooth_people(joints: np.ndarray, frames: np.ndarray, ids: list) -> np.ndarray:
    """Smooth the joints (N, 16, 3) of each person over the frames (N,); rows of NaN stay so."""
    smoothed, names = np.full_like(joints, np.nan), {}
    who = np.array([names.setdefault(name, len(names)) for name in ids])
    for person in range(len(names)):
        rows = np.flatnonzero((who == person) & np.isfinite(joints).all(axis=(1, 2)))
        if len(rows):
            own = frames[rows] - frames[rows].min()
            track = np.full((own.max() + 1, *joints.shape[1:]), np.nan)
            track[own] = joints[rows]
            smoothed[rows] = smooth(track)[own]
    return smoothed


def film_of(joints: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Arrange joints (N, 16, 3) by frames: (F, M, 16, 3), NaN if fewer than M people are there."""
    known = np.isfinite(joints).all(axis=(1, 2))
    joints, frames = joints[known], frames[known]
    slots = np.array([np.count_nonzero(frames[:row] == frame) for row, frame in enumerate(frames)])
    film = np.full((frames.max() + 1, slots.max() + 1, *joints.shape[1:]), np.nan)
    film[frames, slots] = joints
    return film


def smooth(joint_3d: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Return the mean of joints (N, ...) of a video over a window of frames, ignoring NaN."""
    half = window // 2
    ends = np.full_like(joint_3d[:1].repeat(half, axis=0), np.nan)
    padded = np.concatenate([ends, joint_3d, ends])
    frames = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a window without anyone stays NaN
        return np.nanmean(frames, axis=-1)


def animate(points: np.ndarray, joints: np.ndarray, bones, names, path,
            fps: float | None = None) -> None:
    """Write a GIF of points (N, M, J + 1, 2), y up, and joints (N, M, J + 1, 3) of M people.

    The root is last; a person who is not there is NaN. The skeletons turn once about the vertical.
    Without `fps` the GIF has TURN pictures of the N rows. With it the GIF plays the rows in
    real time, at most 12 pictures a second.
    """
    joints = joints[..., [0, 2, 1]] * (1, -1, 1)  # right, away, up
    joints = joints - np.nanmean(joints[..., -1, :], axis=(0, 1))
    reach = np.nanmax(np.hypot(np.linalg.norm(joints[..., :2], axis=-1), joints[..., 2]))
    low, high = np.nanmin(points, axis=(0, 1, 2)), np.nanmax(points, axis=(0, 1, 2))
    half = .55 * (high - low).max()
    rate = min(fps or 12, 12)
    n_pictures = max(round(len(joints) / fps * rate), 1) if fps else TURN
    shown = np.linspace(0, len(joints) - 1, n_pictures).round().astype(int)
    figure, colours = Figure(figsize=(4.8, 2.6), dpi=80), bone_colours(bones, names)
    image = figure.add_axes((0, 0, .44, 1), aspect='equal')
    scene = figure.add_axes((.46, 0, .54, 1), projection='3d', proj_type='ortho')

    def draw(picture):
        row = shown[picture]
        for ax, people, limits in (
                (image, points, np.stack([(low + high) / 2 - half, (low + high) / 2 + half]).T),
                (scene, joints, 3 * [(-reach, reach)])):
            ax.clear()
            draw_bones(ax, people[row], bones, colours, linewidth=2.5)
            ax.set(**{f'{axis}lim': limit for axis, limit in zip('xyz', limits)})
            ax.set_axis_off()
        image.plot(*points[row, :, :-1].reshape(-1, 2).T, '.', color='black', markersize=4)
        scene.set_box_aspect((1, 1, 1), zoom=1.6)
        scene.view_init(10, 360 * picture / n_pictures - 90)  # from the camera first

    with TemporaryDirectory() as folder:
        film = Path(folder, 'a.gif')
        FuncAnimation(figure, draw, n_pictures).save(film, PillowWriter(fps=rate))
        with atomic(path) as file:
            file.write(film.read_bytes())
