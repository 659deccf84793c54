"""Find the body in a photograph; `python -m pare.eval run` calls it."""
import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common.command import Parser, add_device, bounded, exit_status, keep_inputs, pick_device
from common.files import atomic
from pare.body import Body, full_translation, matrix_to_axis_angle
from pare.checks import SIDES
from pare.crop import crop_matrix, read_photo, warp
from pare.formats import write_npz
from pare.model import load_model
from pare.render import overlay, to_pixels
from pare.smpl import compare_body, files_of, load_bodies

SHIPPED = Path(__file__).with_name('pareModel')


@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    """Find the body in a box of a photograph; write its parameters, mesh and picture."""
    picture = args.out.with_suffix('.png')
    check_outputs(args, picture)
    device = pick_device(args.device)
    model, kept = load_model(args.model, device)
    bodies = load_bodies(args.body, ('neutral',))
    compare_body(args.model, kept['options'], bodies, given=args.body is not None)
    arrays, photo = bodies['neutral'], read_photo(args.photo)
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
    with atomic(picture) as file:
        shown(photo, values, arrays, centre, side, args.focal).save(file, format='png')
    if kept['options']['rendered']:
        print(f'{args.model} is trained on rendered people only: expect poor results on photos')
    print(f'wrote {args.out}, {picture}', f'and {args.obj}' * bool(args.obj))


def check_outputs(args: argparse.Namespace, picture: Path) -> None:
    """Raise ValueError if an output would replace an input or another output."""
    if args.out.suffix != '.npz':
        raise ValueError(f'--out: found {args.out}, expected a name that ends in .npz')
    outputs = {'--out': args.out, 'the picture of --out': picture}
    inputs = {'the photograph': args.photo, '--model': args.model} | files_of(args.body)
    keep_inputs(inputs, outputs | {'--obj': args.obj})
    keep_inputs(outputs, {'--obj': args.obj})


def box_of(box, size: tuple[int, int]) -> tuple[tuple[float, float], float]:
    """Return centre and side of the crop of a box x, y, width, height, or of the whole photograph.

    Warns if the box reaches more than a tenth beyond the right or lower edge of the photograph.
    """
    x, y, width, height = box or (0, 0, *size)
    if not (min(width, height) > 0 and SIDES[0] <= max(width, height) <= SIDES[1] and x < size[0]
            and y < size[1] and min(x + width, y + height) > 0):
        raise ValueError(f'--box: found {x:g} {y:g} {width:g} {height:g}, expected a box that '
                         f'meets the image of {size[0]} by {size[1]}, with sides of {SIDES[0]} to '
                         f'{SIDES[1]:g}')
    if x + width > 1.1 * size[0] or y + height > 1.1 * size[1]:
        print(f'warning: the box reaches to {x + width:g} {y + height:g}, beyond the image of '
              f'{size[0]} by {size[1]}; --box is x y width height, not two corners')
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
    """Write the mesh as a Wavefront file, y up; vertices are numbered from 1."""
    with atomic(path, 'w') as file:
        file.writelines(f'v {x:.6f} {y:.6f} {z:.6f}\n' for x, y, z in vertices * (1, -1, -1))
        file.writelines(f'f {a} {b} {c}\n' for a, b, c in faces.astype(int) + 1)


# ---- the command line ---------------------------------------------------------------------------

def make_parser() -> Parser:
    """Make the parser of `run`."""
    parser = Parser(
        prog='python -m pare.eval run', description='Find the body in a photograph.',
        epilog='example: python -m pare.eval run photo.jpg --box 40 30 200 400 --obj person.obj')
    option = parser.add_argument
    option('photo', type=Path, help='an image')
    option('--model', type=Path, default=SHIPPED, metavar='FILE', help='weights')
    option('--box', type=float, nargs=4, metavar='N', help='x y w h of the person, in '
           'pixels of the photograph as it is seen; default: the whole photograph')
    option('--focal', type=bounded(float, 1, 1e6), default=5000., metavar='PX',
           help='focal length of the camera in pixels, for the translation')
    option('--out', type=Path, default='person.npz', metavar='FILE',
           help='parameters; the picture is beside it')
    option('--obj', type=Path, metavar='FILE', help='the mesh')
    option('--body', type=Path, metavar='FILE|FOLDER', help='SMPL model, or folder of '
           'SMPL_NEUTRAL; default: a stand-in')
    add_device(parser)
    return parser


def main(argv: list[str]) -> None:
    """Run on a photograph as the command line says."""
    parser = make_parser()
    args = parser.parse_args(argv)
    with exit_status(parser):
        run(args)
