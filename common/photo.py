"""The people of a photograph or a video: read a detector's file, lift, save and draw them."""
import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common import charts
from common.axes import some_rows
from common.camera import project
from common.detector import CONFIDENT, People, read_people
from common.files import atomic, errors_of, make_folder, save_array
from common.film import animate, film_of, frame_numbers, smooth_people
from common.lifting import FEWEST, lift_people
from common.skeleton import BONES, JOINTS, with_root


def lift_photograph(model, args: argparse.Namespace) -> None:
    """Lift the people of args.keypoints; print, save and draw them. `args` are eval.py's options.

    Raises OSError or ValueError for files and options that do not fit.
    """
    people = read_people(args.keypoints)
    picture, exif = read_picture(args.image) if args.image else (None, None)
    size = args.image_size or picture.shape[1::-1]
    focal, centre = args.focal or exif or math.hypot(*size), args.centre or np.divide(size, 2)
    with errors_of(args.keypoints):
        frames = frame_numbers(people) if args.fps else None
        found = lift_people(model, people.points, size, focal, args.height, centre)
    describe(people, found, size, focal)
    joints = with_root(found['joint_3d'], found['root'])
    if args.fps:
        joints = smooth_people(joints, frames, people.ids)
    make_folder(args.plots)
    if args.predict:
        save_people(args.predict, people, joints, found['seen'], metres=args.height is not None)
    draw_gallery(found, args.plots / 'gallery.png')
    if picture is not None:
        rows = np.flatnonzero(found['kept'])
        charts.draw_people(picture, to_pixels(joints[rows], focal, centre), joints[rows], rows,
                           BONES, JOINTS, 'm' if args.height else 'each root at 1',
                           args.plots / 'people.png')
    if args.animate:
        film = film_of(joints, frames) if args.fps else joints[None, found['kept']]
        points = to_pixels(film, focal, centre) * (1, -1)
        if film.shape[1] == 1:  # one person stays in the middle
            film = film - film[..., -1:, :]
        animate(points, film, BONES, JOINTS, args.animate, args.fps)


def draw_gallery(found: dict, path: Path) -> None:
    """Draw the first person, one in the middle and the last, named by their rows."""
    rows = np.flatnonzero(found['kept'])
    some = dict.fromkeys((0, len(rows) // 2, len(rows) - 1))
    charts.draw_gallery([(f'person {rows[row]}', found['shown'][row], None, found['lifted'][row])
                         for row in some], BONES, JOINTS, path)


def describe(people: People, found: dict, image_size, focal: float) -> None:
    """Print a summary of `lift_people`, and warnings to standard error."""
    def numbers(chosen):
        rows = np.flatnonzero(chosen)
        return some_rows(rows) + f' ({len(rows):,} in all)' * (len(rows) > 5)

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


def save_people(path: Path, people: People, joints: np.ndarray, seen: np.ndarray,
                metres: bool) -> None:
    """Save joints (N, 16, 3), the root last, row i of person i: as .npy (N, 15, 3) without the
    root, or as .json with names."""
    joints = joints.astype(np.float32)
    if path.suffix == '.npy':
        save_array(path, joints[:, :-1])
        return
    rows = []
    for row, places in enumerate(joints.tolist()):
        person = {'index': row, 'frame': people.frames[row], 'id': people.ids[row],
                  'metres': metres, 'root': None, 'joints': None, 'filled_in': None}
        if np.isfinite(joints[row]).all():
            person |= {'root': places[-1], 'joints': dict(zip(JOINTS, places)),
                       'filled_in': [name for name, known in zip(JOINTS, seen[row]) if not known]}
        rows.append(person)
    with atomic(path, 'w') as file:
        json.dump(rows, file, indent=1)


def to_pixels(joint_3d: np.ndarray, focal: float, centre) -> np.ndarray:
    """Project joints (N, J, 3) in the frame of the camera to pixels (N, J, 2)."""
    return project(joint_3d, np.array([focal, -focal])) + centre


def read_picture(path) -> tuple[np.ndarray, float | None]:
    """Read a picture (H, W, 3), turned as EXIF says, and its focal length in pixels if EXIF has it.

    Raises OSError or ValueError for a file that is no picture.
    """
    try:
        with Image.open(path) as image:
            focal_35 = image.getexif().get_ifd(0x8769).get(0xA405)  # FocalLengthIn35mmFilm
            image = ImageOps.exif_transpose(image).convert('RGB')
    except UnidentifiedImageError as error:
        raise ValueError(f'{path}: found no picture that Pillow reads') from error
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror or error}, expected a picture') from error
    return np.asarray(image), focal_35 * max(image.size) / 36 if focal_35 else None
