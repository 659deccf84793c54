"""Scores a regressor of the SMPL body, and runs it on a photograph.

    python -m pare.eval                          # the shipped weights on rendered people
    python -m pare.eval pareModel --data 3dpw_test.npz --images /data --body-dir smpl
    python -m pare.eval run photo.jpg --box x y w h --obj out.obj
"""
from pare.command import command, end_at_once

if __name__ == '__main__':  # while torch is imported
    end_at_once()

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data import atomic
from metrics import cal_joint_error, cal_mpjpe, cal_pa_mpjpe
from model import pick_device
from pare import pictures
from pare.body import H36M, Body, Skeleton, full_translation, matrix_to_axis_angle
from pare.data import GENDERS, People, crop_matrix, load_bodies, read_photo, standardise, warp
from pare.files import SIDES, load_body
from pare.formats import write_npz
from pare.metrics import complete, evaluate, measure, pointed
from pare.model import load_model
from pare.people import rendered_samples
from pare.render import overlay, to_pixels
from pare.standin import make_body
from plots import write_csv
from training import Parser, bounded, status

SHIPPED = Path(__file__).with_name('pareModel')
N_TEST, TEST_SEED = 500, 1
FLOOR = 44  # mm: an MLP on the exact 2D keypoints of rendered people, see pare.ladder


# ---- the score ----------------------------------------------------------------------------------

def score(args: argparse.Namespace) -> None:
    """Measures, prints and draws."""
    device = pick_device(args.device)
    model, kept = load_model(args.model, device)
    resolution, visible = kept['options']['resolution'], None
    bodies = bodies_of(args)
    if args.data:
        samples = People(args.data, bodies['neutral'], args.images, resolution)
        left_out = samples.keep_scored()
        print(f'{args.model} on {args.data}: {len(samples):,} samples; {left_out:,} without truth '
              f'are left out')
        visible = samples.set.get('visible')
    else:
        samples, visible = rendered_samples(N_TEST, resolution, TEST_SEED)
        print(f'{args.model} on {N_TEST} rendered people (seed {TEST_SEED}), of no training')
    found = measure(model, samples, bodies, genders_of(samples, bodies), device)
    found['all'] = evaluate(model, DataLoader(samples, 64),
                            Skeleton(bodies['neutral']).to(device), device)
    rows = report(found, kept, bodies, rendered=not args.data)
    args.plots.mkdir(parents=True, exist_ok=True)
    write_csv(args.plots / 'score.csv', ('name', 'value', 'unit', 'of'), rows)
    pictures.draw_all(model, samples, bodies['neutral'], found, visible, args.plots, device)
    print(f'\nwrote pictures to {args.plots}')


def genders_of(samples, bodies: dict) -> list[str]:
    """The gender of each sample's true body. Raises ValueError where the set does not tell it."""
    if len(bodies) == 1:
        return ['neutral'] * len(samples)
    if 'gender' not in samples.set:
        raise ValueError(f'{samples.path}: key gender is missing, expected m or f for each sample; '
                         f'--gt-gender neutral goes without')
    return samples.set['gender'].tolist()


def bodies_of(args: argparse.Namespace) -> dict[str, dict]:
    """Bodies by gender. Raises ValueError where one has no regressor for the joints of 3DPW."""
    if not args.data and (args.body or args.body_dir):
        raise ValueError('--body: found one without --data, expected none: rendered people are of '
                         'the stand-in')
    bodies = load_bodies(args.body, args.body_dir,
                         ('neutral',) if args.gt_gender == 'neutral' else tuple(GENDERS))
    for gender, arrays in bodies.items():
        if 'J_regressor_h36m' not in arrays:
            raise ValueError(f'body {gender}: found no J_regressor_h36m.npy beside it, expected '
                             f'one for the joints of Human3.6M and 3DPW')
    return bodies


def report(found: dict, kept: dict, bodies: dict, rendered: bool) -> list[tuple]:
    """Prints the errors, each with what it is of; returns their names, values and units."""
    joints, truth = complete(found['all'])
    resolution, source = kept['options']['resolution'], (
        'S' if found['vertices'].isnan().all() else 'bodies of the gender in the file'
        if len(bodies) > 1 else 'neutral bodies')
    note, constant = f'{truth.shape[1]} joints of Human3.6M from the pelvis', kept['mean_pose']
    note, rows = note + ', truth: neutral bodies' * (len(bodies) > 1), []
    if constant is not None and constant.shape == truth.shape[1:]:
        constant = 1000 * cal_mpjpe(constant.expand_as(truth), truth)
        rows.append(('mean pose', constant, 'mm', 'a constant, the mean of the training'))
    if rendered:
        rows.append(('floor', FLOOR, 'mm', 'what exact 2D keypoints tell, about'))
    rows += [('MPJPE', 1000 * cal_mpjpe(joints, truth), 'mm', note),
             ('PA-MPJPE', 1000 * cal_pa_mpjpe(joints, truth), 'mm', 'after Procrustes alignment'),
             ('MPJPE 14', 1000 * cal_mpjpe(found['found'], found['true']), 'mm',
              f'the 14 joints of 3DPW, pelvis = regressor row 0, truth: {source}'),
             ('PA 14', 1000 * cal_pa_mpjpe(found['found'], found['true']), 'mm',
              'after Procrustes alignment'),
             ('vertices', 1000 * found['vertices'].nanmean(), 'mm', 'all vertices, not aligned'),
             ('keypoints', found['all']['off'].nanmean() * resolution / 2, 'px',
              f'of {resolution}: how far the visible 2D keypoints fall off')]
    if 'peaks' in found and (found['labels'] > 0).any():
        shares = pointed(found)
        rows += [('pointing', shares['attention'], '%', 'of visible parts have its peak in a cell'),
                 ('', shares['mean map'], '%', 'with the mean map of all images'),
                 ('', shares['other map'], '%', 'with the map of another image')]
    print()
    rows = [(name, float(value), unit, text) for name, value, unit, text in rows]
    for name, value, unit, text in rows:
        if not math.isnan(value):
            print(f'{name:10}{value:8.{2 if unit == "px" else 1}f} {unit:3} {text}')
    print('\njoint      mean error')
    for name, error in zip(H36M, cal_joint_error(joints, truth)):
        print(f'{name:10} {1000 * error:6.1f} mm')
    return rows


# ---- one's own photograph -----------------------------------------------------------------------

@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    """Regresses the body in a box of a photograph; writes the mesh and the parameters."""
    if args.out.suffix != '.npz':
        raise ValueError(f'--out: found {args.out}, expected a name that ends in .npz')
    device = pick_device(args.device)
    model, kept = load_model(args.model, device)
    arrays = load_body(args.body) if args.body else make_body()
    photo = read_photo(args.photo)
    centre, side = box_of(args.box, photo.size)
    resolution = kept['options']['resolution']
    crop = warp(photo, crop_matrix(centre, side, resolution), resolution)
    output = model(torch.from_numpy(standardise(crop))[None].to(device))
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
    """Centre and side of the crop of a box x, y, width, height, or else of the whole photograph.
    Raises ValueError for a box beside it."""
    x, y, width, height = box or (0, 0, *size)
    if not (min(width, height) > 0 and SIDES[0] <= max(width, height) <= SIDES[1] and x < size[0]
            and y < size[1] and min(x + width, y + height) > 0):
        raise ValueError(f'--box: found {x:g} {y:g} {width:g} {height:g}, expected a box that '
                         f'meets the image of {size[0]} by {size[1]}, with sides of {SIDES[0]} to '
                         f'{SIDES[1]:g}')
    return (x + width / 2, y + height / 2), 1.2 * max(width, height)


def shown(photo: Image.Image, values: dict, arrays: dict, centre, side: float,
          focal: float) -> Image.Image:
    """The mesh over the photograph, placed by the translation in the camera of the whole image,
    f X / Z from its middle; and beside it over the crop that the network saw, as high."""
    faces, image, high = arrays['f'].astype(np.int64), np.asarray(photo), photo.height
    points = values['verts'] + values['translation']
    pixels = focal * points[:, :2] / points[:, 2:] + np.array(photo.size) / 2
    crop = warp(photo, crop_matrix(centre, side, high), high)
    return Image.fromarray(np.hstack([
        overlay(image, pixels, points, faces),
        overlay(crop, to_pixels(values['verts'], values['pred_cam'], high), points, faces)]))


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """The mesh as a Wavefront file, y up; faces count from 1."""
    with atomic(path, 'w') as file:
        file.writelines(f'v {x:.6f} {y:.6f} {z:.6f}\n' for x, y, z in vertices * (1, -1, -1))
        file.writelines(f'f {a} {b} {c}\n' for a, b, c in faces.astype(int) + 1)


# ---- the command line ---------------------------------------------------------------------------

def make_parser(running: bool) -> Parser:
    """The options of the score, or of `run`."""
    parser = Parser(
        prog='python -m pare.eval' + ' run' * running,
        description='Finds the body in a photograph.' if running else
        'Scores a regressor of the SMPL body. "python -m pare.eval run --help": on a photograph.',
        epilog='example: python -m pare.eval ' + (
            'run photo.jpg --box 40 30 200 400 --obj person.obj' if running else
            'pareModel --data 3dpw_test.npz --images /data --body-dir smpl'))
    option = parser.add_argument
    if running:
        option('photo', type=Path, help='an image')
        option('--model', type=Path, default=SHIPPED, metavar='FILE', help='weights')
        option('--box', type=float, nargs=4, metavar='N', help='x y w h of the person, in '
               'pixels of the photograph as it is seen; else the whole photograph')
        option('--focal', type=bounded(float, 1, 1e6), default=5000., metavar='PX',
               help='focal length of the camera in pixels, for the translation')
        option('--out', type=Path, default='person.npz', metavar='FILE',
               help='parameters; the picture lies beside')
        option('--obj', type=Path, metavar='FILE', help='the mesh')
        option('--body', type=Path, metavar='FILE', help='SMPL model; else a stand-in')
    else:
        option('model', type=Path, nargs='?', default=SHIPPED, help='weights')
        option('--data', type=Path, metavar='FILE', help='a set, .npz; else people are rendered')
        option('--images', type=Path, default=Path(), metavar='FOLDER', help='where imgname begins')
        body = parser.add_mutually_exclusive_group().add_argument
        body('--body', type=Path, metavar='FILE', help='SMPL model; else a stand-in')
        body('--body-dir', type=Path, metavar='FOLDER', help='SMPL_NEUTRAL, _MALE and _FEMALE')
        option('--gt-gender', choices=('file', 'neutral'), default='file', help='of the true body')
        option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='pictures')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    return parser


def main(argv=None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    running = argv[:1] == ['run']
    parser = make_parser(running)
    args = parser.parse_args(argv[running:])
    return status(parser, lambda: (run if running else score)(args))


if __name__ == '__main__':
    command(main)
