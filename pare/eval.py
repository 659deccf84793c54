"""Scores a regressor of the SMPL body, and runs it on a photograph.

    python -m pare.eval                          # the shipped weights on rendered people
    python -m pare.eval pareModel --data 3dpw_test.npz --images /data --body smpl
    python -m pare.eval run photo.jpg --box x y w h --obj out.obj
"""
import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from common.command import Parser, add_device, bounded, exit_status, pick_device
from common.files import atomic, write_csv
from metrics import cal_joint_error, cal_mpjpe, cal_pa_mpjpe
from pare import pictures
from pare.body import GENDERS, H36M, Body, Skeleton, full_translation, matrix_to_axis_angle
from pare.data import People, crop_matrix, load_bodies, read_photo, warp
from pare.files import SIDES
from pare.formats import write_npz
from pare.metrics import Meshes, complete, evaluate, pointed
from pare.model import load_model
from pare.people import rendered_samples
from pare.render import overlay, to_pixels

SHIPPED = Path(__file__).with_name('pareModel')
N_TEST, TEST_SEED = 500, 1
FLOOR = 44  # mm: an MLP on the exact 2D keypoints of rendered people, see pare.ladder


# ---- the score ----------------------------------------------------------------------------------

def score(args: argparse.Namespace) -> None:
    """Measure, print and draw."""
    device = pick_device(args.device)
    model, kept = load_model(args.model, device)
    bodies, resolution = bodies_of(args), kept['options']['resolution']
    samples, visible = samples_of(args, bodies, resolution)
    meshes = Meshes(bodies, device)
    found = evaluate(model, DataLoader(samples, 64), Skeleton(bodies['neutral']).to(device),
                     device, meshes)
    rows = rows_of(found, meshes.attention, bodies, kept['mean_pose'], resolution, not args.data)
    report(rows, found)
    args.plots.mkdir(parents=True, exist_ok=True)
    write_csv(args.plots / 'score.csv', ('name', 'value', 'unit', 'of'), rows)
    pictures.draw_all(model, samples, bodies['neutral'], found, visible, args.plots, device,
                      args.sensitivity)
    print(f'\nwrote pictures to {args.plots}')


def bodies_of(args: argparse.Namespace) -> dict[str, dict]:
    """Load bodies by gender. Raises ValueError if one has no regressor for the joints of 3DPW."""
    if args.body and not args.data:
        raise ValueError('--body: found one without --data, expected none: rendered people have '
                         'the stand-in body')
    bodies = load_bodies(args.body, ('neutral',) if args.gt_gender == 'neutral' else GENDERS)
    for gender, arrays in bodies.items():
        if 'J_regressor_h36m' not in arrays:
            raise ValueError(f'body {gender}: found no J_regressor_h36m.npy beside it, expected '
                             f'one for the joints of Human3.6M and 3DPW')
    return bodies


def samples_of(args: argparse.Namespace, bodies: dict, resolution: int) -> tuple:
    """Load or render the samples; also return the visible share of each body (N,), or None."""
    if not args.data:
        print(f'{args.model} on {N_TEST} rendered people (seed {TEST_SEED}), not used in training')
        return rendered_samples(N_TEST, resolution, TEST_SEED)
    people = People(args.data, bodies['neutral'], args.images, resolution)
    left_out = people.keep_scored()
    if len(bodies) > 1 and (people.set['gender'] == 'neutral').all():
        raise ValueError(f'{args.data}: key gender is missing or always neutral, expected m or f; '
                         f'--gt-gender neutral goes without')
    print(f'{args.model} on {args.data}: {len(people):,} samples; {left_out:,} without truth are '
          f'left out')
    return people, people.set.get('visible')


def rows_of(found: dict, attention: Tensor, bodies: dict, constant: Tensor | None,
            resolution: int, rendered: bool) -> list[tuple]:
    """Return the rows of the score that are known: name, value, unit, and what it is."""
    joints, truth = complete(found)
    note, source = f'{truth.shape[1]} joints of Human3.6M from the pelvis', 'neutral bodies'
    if len(bodies) > 1:
        note, source = f'{note}, truth: neutral bodies', 'bodies of the gender in the file'
    source = 'S' if found['vertices'].isnan().all() else source
    note_14 = f'the 14 joints of 3DPW, pelvis = regressor row 0, truth: {source}'
    aligned, rows = 'after Procrustes alignment', []
    joints_14, truth_14 = found['found_14'], found['true_14']
    if constant is not None and constant.shape == truth.shape[1:]:
        error = cal_mpjpe(constant.expand_as(truth), truth)
        rows.append(('mean pose', 1000 * error, 'mm', 'a constant, the mean of the training'))
    if rendered:
        rows.append(('floor', FLOOR, 'mm', 'about what exact 2D keypoints tell'))
    rows += [('MPJPE', 1000 * cal_mpjpe(joints, truth), 'mm', note),
             ('PA-MPJPE', 1000 * cal_pa_mpjpe(joints, truth), 'mm', aligned),
             ('MPJPE 14', 1000 * cal_mpjpe(joints_14, truth_14), 'mm', note_14),
             ('PA 14', 1000 * cal_pa_mpjpe(joints_14, truth_14), 'mm', aligned),
             ('vertices', 1000 * found['vertices'].nanmean(), 'mm', 'all vertices, not aligned'),
             ('keypoints', found['off'].nanmean() * resolution / 2, 'px',
              f'of {resolution}: error of the visible 2D keypoints')]
    if 'peaks' in found:
        own, mean, other = pointed(found['peaks'], found['labels'], attention)
        rows += [('pointing', own, '%', 'of visible parts have its peak in a cell'),
                 ('', mean, '%', 'with the mean map of all images'),
                 ('', other, '%', 'with the map of another image')]
    return [(name, float(value), unit, text) for name, value, unit, text in rows
            if not math.isnan(value)]


def report(rows: list[tuple], found: dict) -> None:
    """Print the rows, then the error of each joint."""
    print()
    for name, value, unit, text in rows:
        print(f'{name:10}{value:8.{2 if unit == "px" else 1}f} {unit:3} {text}')
    print('\njoint      mean error')
    for name, error in zip(H36M, cal_joint_error(*complete(found))):
        print(f'{name:10} {1000 * error:6.1f} mm')


# ---- one's own photograph -----------------------------------------------------------------------

@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    """Find the body in a box of a photograph; write its parameters, mesh and picture."""
    if args.out.suffix != '.npz':
        raise ValueError(f'--out: found {args.out}, expected a name that ends in .npz')
    device = pick_device(args.device)
    model, kept = load_model(args.model, device)
    arrays = load_bodies(args.body, ('neutral',))['neutral']
    photo = read_photo(args.photo)
    centre, side = box_of(args.box, photo.size)
    resolution = kept['options']['resolution']
    crop = warp(photo, crop_matrix(centre, side, resolution), resolution)
    output = model(torch.from_numpy(crop).permute(2, 0, 1)[None].to(device))
    vertices, joints = Body(arrays).to(device)(output['betas'], output['rotations'])
    shift = full_translation(output['camera'].cpu(), torch.tensor([centre]), torch.tensor([side]),
                             torch.tensor([photo.size]), args.focal)
    values = {'verts': vertices[0], 'pose': matrix_to_axis_angle(output['rotations'])[0].flatten(),
              'betas': output['betas'][0], 'pred_cam': output['camera'][0],
              'translation': shift[0], 'joints': joints[0]}
    values = {key: value.cpu().numpy() for key, value in values.items()}
    write_npz(args.out, values)
    if args.obj:
        write_obj(args.obj, values['verts'], arrays['f'])
    picture = args.out.with_suffix('.png')
    with atomic(picture) as file:
        shown(photo, values, arrays, centre, side, args.focal).save(file, format='png')
    if kept['options']['rendered']:
        print(f'{args.model} has seen rendered people alone: on a photograph expect little')
    print(f'wrote {args.out}, {picture}', f'and {args.obj}' * bool(args.obj))


def box_of(box, size: tuple[int, int]) -> tuple[tuple[float, float], float]:
    """Return centre and side of the crop of a box x, y, width, height, or of the whole photograph.
    """
    x, y, width, height = box or (0, 0, *size)
    if not (min(width, height) > 0 and SIDES[0] <= max(width, height) <= SIDES[1] and x < size[0]
            and y < size[1] and min(x + width, y + height) > 0):
        raise ValueError(f'--box: found {x:g} {y:g} {width:g} {height:g}, expected a box that '
                         f'meets the image of {size[0]} by {size[1]}, with sides of {SIDES[0]} to '
                         f'{SIDES[1]:g}')
    return (x + width / 2, y + height / 2), 1.2 * max(width, height)


def shown(photo: Image.Image, values: dict, arrays: dict, centre, side: float,
          focal: float) -> Image.Image:
    """Draw the mesh over the photograph and, at its right, over the crop that the network saw.

    In the photograph the translation places it: f X / Z from the middle of the image.
    """
    faces, image, high = arrays['f'].astype(np.int64), np.asarray(photo), photo.height
    points = values['verts'] + values['translation']
    pixels = focal * points[:, :2] / points[:, 2:] + np.array(photo.size) / 2
    crop = warp(photo, crop_matrix(centre, side, high), high)
    return Image.fromarray(np.hstack([
        overlay(image, pixels, points, faces),
        overlay(crop, to_pixels(values['verts'], values['pred_cam'], high), points, faces)]))


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write the mesh as a Wavefront file, y up; faces count from 1."""
    with atomic(path, 'w') as file:
        file.writelines(f'v {x:.6f} {y:.6f} {z:.6f}\n' for x, y, z in vertices * (1, -1, -1))
        file.writelines(f'f {a} {b} {c}\n' for a, b, c in faces.astype(int) + 1)


# ---- the command line ---------------------------------------------------------------------------

def make_parser(running: bool) -> Parser:
    """Make the parser of the score, or of `run`."""
    parser = Parser(
        prog='python -m pare.eval' + ' run' * running,
        description='Find the body in a photograph.' if running else
        'Score a regressor of the SMPL body. "python -m pare.eval run --help": on a photograph.',
        epilog='example: python -m pare.eval ' + (
            'run photo.jpg --box 40 30 200 400 --obj person.obj' if running else
            'pareModel --data 3dpw_test.npz --images /data --body smpl'))
    option = parser.add_argument
    if running:
        option('photo', type=Path, help='an image')
        option('--model', type=Path, default=SHIPPED, metavar='FILE', help='weights')
        option('--box', type=float, nargs=4, metavar='N', help='x y w h of the person, in '
               'pixels of the photograph as it is seen; default: the whole photograph')
        option('--focal', type=bounded(float, 1, 1e6), default=5000., metavar='PX',
               help='focal length of the camera in pixels, for the translation')
        option('--out', type=Path, default='person.npz', metavar='FILE',
               help='parameters; the picture is beside it')
        option('--obj', type=Path, metavar='FILE', help='the mesh')
    else:
        option('model', type=Path, nargs='?', default=SHIPPED, help='weights')
        option('--data', type=Path, metavar='FILE', help='a set, .npz; default: rendered people')
        option('--images', type=Path, default=Path(), metavar='FOLDER', help='where imgname begins')
        option('--gt-gender', choices=('file', 'neutral'), default='file', help='of the true body')
        option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='pictures')
        option('--sensitivity', action='store_true', help='also the picture of grey squares')
    option('--body', type=Path, metavar='FILE|FOLDER', help='SMPL model, or folder of '
           'SMPL_NEUTRAL, _MALE and _FEMALE; default: a stand-in')
    add_device(parser)
    return parser


def main(argv=None) -> None:
    """Score, or run on a photograph."""
    argv = list(sys.argv[1:] if argv is None else argv)
    running = argv[:1] == ['run']
    parser = make_parser(running)
    args = parser.parse_args(argv[running:])
    with exit_status(parser):
        (run if running else score)(args)


if __name__ == '__main__':
    main()
