"""The people of a photograph or a video: read a detector's file, lift, save and draw them."""
import argparse
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common import charts
from common.camera import project
from common.detector import CONFIDENT, People, read_people
from common.files import atomic, errors_of, save_array
from common.lifting import FEWEST, lift_people
from common.skeleton import BONES, JOINTS

WINDOW = 9  # frames of the moving average: jitter falls from 35 to 4 mm/frame^2


def lift_photograph(model, args: argparse.Namespace) -> None:
    """Lift the people of args.keypoints, the options of eval.py; print, save and draw them.

    Raises OSError or ValueError for files and options that do not fit.
    """
    people = read_people(args.keypoints)
    picture, film = read_picture(args.image) if args.image else (None, None)
    size = args.image_size or picture.shape[1::-1]
    focal, centre = args.focal or film or math.hypot(*size), args.centre or np.divide(size, 2)
    if args.fps and len(set(people.frames)) < len(people.frames):
        raise ValueError(f'--fps: found several people in a frame of {args.keypoints}, expected '
                         f'one person')
    with errors_of(args.keypoints):
        found = lift_people(model, people.points, size, focal, args.height, centre)
    describe(people, found, size, focal)
    if args.fps:
        found['joint_3d'], found['root'] = smooth(found['joint_3d']), smooth(found['root'])
    args.plots.mkdir(parents=True, exist_ok=True)
    if args.predict:
        save_people(args.predict, people, found, metres=args.height is not None)
    draw_photo(args, found, picture, focal, centre)


def draw_photo(args: argparse.Namespace, found: dict, picture, focal: float, centre) -> None:
    """Draw what `lift_people` found; people are named by their row."""
    rows, shown, lifted = np.flatnonzero(found['kept']), found['shown'], found['lifted']
    charts.draw_gallery([(f'person {rows[row]}', shown[row], None, lifted[row])
                         for row in dict.fromkeys((0, len(rows) // 2, len(rows) - 1))],
                        BONES, JOINTS, args.plots / 'gallery.png')
    if picture is not None:
        joints = np.concatenate([found['joint_3d'], found['root'][:, None]], axis=1)[rows]
        charts.draw_people(picture, to_pixels(joints, focal, centre), joints, rows, BONES, JOINTS,
                           'm' if args.height else 'root of each person at 1',
                           args.plots / 'people.png')
    if args.animate and args.fps:  # a frame without a person repeats the last one
        place = np.maximum(np.cumsum(found['kept']) - 1, 0)
        shown, lifted = shown[place], smooth(lifted)[place]
    if args.animate:
        charts.animate(shown, lifted, BONES, JOINTS, args.animate, args.fps)


def describe(people: People, found: dict, image_size, focal: float) -> None:
    """Print a summary of `lift_people`, and warnings to standard error."""
    def numbers(chosen):
        return ', '.join(map(str, np.flatnonzero(chosen)))

    points, kept, seen = people.points, found['kept'], found['seen'][found['kept']]
    print(f'{len(points):,} {"person" if len(points) == 1 else "people"} of {people.kind}, focal '
          f'length {focal:.0f} pixels, {(~seen).sum():,} of {seen.size:,} joints filled in')
    if not kept.all():
        print(f'skipped, fewer than {FEWEST} of {len(JOINTS)} joints: person {numbers(~kept)}')
    outside = ((points[..., :2] < 0) | (points[..., :2] > image_size)).any(axis=2)
    outside &= points[..., 2] >= CONFIDENT
    if outside[kept].mean() > .05:
        print(f'warning: {100 * outside[kept].mean():.0f} % of the points lie outside of the '
              f'picture; is --image-size W H that of the picture?', file=sys.stderr)
    odd = kept.copy()
    odd[kept] = found['odd']
    if odd.any():
        print(f'warning: the points of person {numbers(odd)} do not look like those of a person; '
              f'is their order that of {people.kind}, x before y, and y down?', file=sys.stderr)


def save_people(path: Path, people: People, found: dict, metres: bool) -> None:
    """Save joints (N, 15, 3), row i of person i, as .npy, or as .json with names."""
    joint_3d = found['joint_3d'].astype(np.float32)
    if path.suffix == '.npy':
        save_array(path, joint_3d)
        return
    rows = []
    for row, joints in enumerate(joint_3d):
        person = {'index': row, 'frame': people.frames[row], 'metres': metres, 'root': None,
                  'joints': None, 'filled_in': None}
        if np.isfinite(joints).all():
            person |= {'root': found['root'][row].tolist(),
                       'joints': dict(zip(JOINTS, joints.tolist())),
                       'filled_in': [name for name, seen in zip(JOINTS, found['seen'][row])
                                     if not seen]}
        rows.append(person)
    with atomic(path, 'w') as file:
        json.dump(rows, file, indent=1)


def to_pixels(joint_3d: np.ndarray, focal: float, centre) -> np.ndarray:
    """Project joints (N, J, 3) in the frame of the camera to pixels (N, J, 2)."""
    return project(joint_3d, np.array([focal, -focal])) + centre


def read_picture(path) -> tuple[np.ndarray, float | None]:
    """Read a picture (H, W, 3) as it is seen, and its focal length in pixels if EXIF tells it.

    Raises OSError or ValueError for a file that is none.
    """
    try:
        with Image.open(path) as image:
            film = image.getexif().get_ifd(0x8769).get(0xA405)  # FocalLengthIn35mmFilm
            image = ImageOps.exif_transpose(image).convert('RGB')
    except UnidentifiedImageError as error:
        raise ValueError(f'{path}: found no picture that Pillow reads') from error
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror or error}, expected a picture') from error
    return np.asarray(image), film * max(image.size) / 36 if film else None


def smooth(joint_3d: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Return the mean of joints (N, ...) of a video over a window of frames; NaN do not count."""
    half = window // 2
    ends = np.full_like(joint_3d[:1].repeat(half, axis=0), np.nan)
    padded = np.concatenate([ends, joint_3d, ends])
    frames = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a window without anyone stays NaN
        return np.nanmean(frames, axis=-1)
