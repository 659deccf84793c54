"""Score a regressor of the SMPL body, or run it on a photograph.

    python -m pare.eval                          # the shipped weights on rendered people
    python -m pare.eval pareModel --data 3dpw_test.npz --images /data --body smpl
    python -m pare.eval pareModel --data 3dpw_test.npz --images /data --body smpl --predict OUT.csv
    python -m pare.eval run photo.jpg --box x y w h --obj out.obj
"""
import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.command import Parser, add_device, bounded, exit_status, keep_inputs, pick_device
from common.files import atomic, make_folder, write_csv
from metrics import cal_joint_error, cal_mpjpe, cal_pa_mpjpe
from pare import photo, pictures
from pare.batches import Loader, default_workers
from pare.body import GENDERS, Skeleton, matrix_to_axis_angle
from pare.data import People
from pare.formats import write_npz
from pare.metrics import Meshes, complete, describe_joints, evaluate, names_of, pointed
from pare.model import load_model
from pare.people import rendered_samples
from pare.photo import SHIPPED
from pare.smpl import STAND_IN, compare_body, files_of, load_bodies, skeletons
from pare.spin import Spin

N_TEST, TEST_SEED = 500, 1
FLOOR = 42  # mm: an MLP on the exact 2D keypoints of rendered people, see pare.ladder
ALIGNED = 'after Procrustes alignment'


# ---- the score ----------------------------------------------------------------------------------

def score(args: argparse.Namespace) -> None:
    """Measure, print and draw; with --predict also save what was found."""
    check_options(args)
    device = pick_device(args.device)
    model, kept = load_model(args.model, device)
    bodies, resolution = load_bodies_of(args, kept['options']), kept['options']['resolution']
    by_gender, meshes = skeletons(bodies, device), Meshes(bodies, device)
    samples, visible, known = samples_of(args, bodies, resolution)

    def measure(output: dict, batch: dict) -> dict[str, Tensor]:
        own = predicted(output, meshes.spin[0]) if args.predict else {}
        return meshes(output, batch) | own

    workers = default_workers(args.data) if args.workers is None else args.workers
    batches = Loader(samples, 64, num_workers=workers, pin_memory=device.type == 'cuda')
    found = evaluate(model, batches, by_gender['neutral'], device, measure,
                     {key: value for key, value in by_gender.items() if key != 'neutral'})
    if args.predict:
        save_predicted(args.predict, found, samples)
    found = {key: value[known] for key, value in found.items()}
    if not known.any():
        return
    rows = rows_of(found, meshes.attention, bodies, kept['mean_pose'], resolution, not args.data)
    report(rows, found, by_gender['neutral'])
    make_folder(args.plots)
    write_csv(args.plots / 'score.csv', ('name', 'value', 'unit', 'of'), rows)
    if not known.all():
        samples = torch.utils.data.Subset(samples, np.flatnonzero(known))
    pictures.draw_all(model, samples, bodies['neutral'], found, visible, args.plots, device,
                      args.sensitivity)
    print(f'\nwrote pictures to {args.plots}')


def check_options(args: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together, and outputs that replace inputs."""
    for name in ('body', 'predict'):
        if getattr(args, name) and not args.data:
            raise ValueError(f'--{name}: found one without --data, expected none: rendered people '
                             f'have the stand-in body')
    if args.predict and args.predict.suffix not in ('.npz', '.csv'):
        raise ValueError(f'--predict: found {args.predict}, expected a name that ends in .npz or '
                         f'.csv')
    keep_inputs({'MODEL': args.model, '--data': args.data} | files_of(args.body), outputs_of(args))


def outputs_of(args: argparse.Namespace) -> dict[str, Path | None]:
    """Return the files that a score writes, by their options."""
    return {'--predict': args.predict} | {
        f'--plots, {name}': args.plots / name for name in (*pictures.NAMES, 'score.csv')}


def load_bodies_of(args: argparse.Namespace, options: dict) -> dict[str, dict]:
    """Load bodies by gender; print which scores are left out for lack of a regressor."""
    bodies = load_bodies(args.body, ('neutral',) if args.gt_gender == 'neutral' else GENDERS)
    compare_body(args.model, options, bodies, given=args.body is not None)
    joints = Spin(bodies['neutral'])
    if not joints.complete:
        if args.predict:
            raise ValueError(f'{args.body}: {joints.skeleton.missing()}, expected all for '
                             f'--predict')
        print(f'{joints.skeleton.missing()}; so the 49 joints of SPIN are not scored')
    if 'J_regressor_h36m' not in bodies['neutral']:
        print(f'{args.body}: found no J_regressor_h36m.npy beside the body or up to two folders '
              f'above, so the joints of Human3.6M and 3DPW are not scored')
    return bodies


def samples_of(args: argparse.Namespace, bodies: dict, resolution: int) -> tuple:
    """Load or render the samples; also return the visible share of each body (N,), or None, and
    which samples have a truth (N,). Those without are kept for --predict alone."""
    if not args.data:
        print(f'{args.model} on {N_TEST} rendered people (seed {TEST_SEED}), not used in training')
        return *rendered_samples(N_TEST, resolution, TEST_SEED), np.ones(N_TEST, dtype=bool)
    people = People(args.data, bodies['neutral'], args.images, resolution)
    keep_inputs(people.photos(pictures.NAMES), outputs_of(args))
    if not args.body and 'images' not in people.set:
        print(STAND_IN)
    known = people.scored()
    if not args.predict:
        people.keep_scored()
    genders = people.set['gender'][people.scored()]
    if len(bodies) > 1 and len(genders) and (genders == 'neutral').all():
        raise ValueError(f'{args.data}: key gender is missing or always neutral, expected m or f; '
                         f'--gt-gender neutral scores with neutral bodies')
    print(f'{args.model} on {args.data}: {known.sum():,} samples; {(~known).sum():,} without truth '
          f'are not scored')
    visible, kept = people.set.get('visible'), people.scored()
    return people, None if visible is None else visible[kept], kept


def rows_of(found: dict, attention: Tensor, bodies: dict, constant: Tensor | None,
            resolution: int, rendered: bool) -> list[tuple]:
    """Return the rows of the score that are known: name, value, unit, and what it is."""
    truth = complete(found)[1]
    source = 'bodies of the gender in the file' if len(bodies) > 1 else 'neutral bodies'
    source = f'truth: {"S" if found["vertices"].isnan().all() else source}'
    rows = []
    if 'found_14' in found and constant is not None and constant.shape == truth.shape[1:]:
        error = cal_mpjpe(constant.expand_as(truth), truth)
        rows.append(('mean pose', 1000 * error, 'mm', 'a constant, the mean of the training'))
    if rendered:
        rows.append(('floor', FLOOR, 'mm', 'about the error of an MLP on exact 2D keypoints'))
    rows += joint_rows(found, source)
    rows += [('vertices', 1000 * found['vertices'].nanmean(), 'mm', 'all vertices, not aligned'),
             ('keypoints', found['off'].nanmean() * resolution / 2, 'px',
              f'of {resolution}: error of the visible 2D keypoints')]
    if 'peaks' in found:
        own, mean, other = pointed(found['peaks'], found['labels'], attention)
        rows += [('pointing', own, '%', 'of visible parts: attention peaks at most 1 cell off'),
                 ('', mean, '%', 'with the mean map of all images'),
                 ('', other, '%', 'with the map of another image')]
    return [(name, float(value), unit, text) for name, value, unit, text in rows
            if not math.isnan(value)]


def joint_rows(found: dict, source: str) -> list[tuple]:
    """Return the rows of joints, as many measures as the body has regressors for."""
    rows = []
    if 'found_14' in found:
        joints, truth = complete(found)
        rows += errors('MPJPE', 'PA-MPJPE', (joints, truth),
                       f'17 joints of Human3.6M from the pelvis, {source}')
        rows.append(('MPJPE 16', 1000 * cal_mpjpe(joints[:, 1:], truth[:, 1:]), 'mm',
                     'the same without the pelvis, whose error is 0'))
        rows += errors('MPJPE 14', 'PA 14', complete(found, '_14'),
                       f'the 14 joints of 3DPW, pelvis = regressor row 0, {source}')
    if 'found_49' in found:
        rows += errors('MPJPE 49', 'PA 49', complete(found, '_49'),
                       f'the 49 joints of SPIN from the nose, {source}')
    return rows


def errors(name: str, aligned: str, joints: tuple[Tensor, Tensor], note: str) -> list[tuple]:
    """Return two rows: MPJPE and PA-MPJPE of joints, found and true (N, K, 3)."""
    return [(name, 1000 * cal_mpjpe(*joints), 'mm', note),
            (aligned, 1000 * cal_pa_mpjpe(*joints), 'mm', ALIGNED)]


def report(rows: list[tuple], found: dict, skeleton: Skeleton) -> None:
    """Print the rows, then the error of each joint."""
    print()
    for name, value, unit, text in rows:
        print(f'{name:10}{value:8.{2 if unit == "px" else 1}f} {unit:3} {text}')
    print(f'\njoint      mean error, {describe_joints(skeleton)}')
    for name, error in zip(names_of(skeleton), cal_joint_error(*complete(found))):
        print(f'{name:10} {1000 * error:6.1f} mm')


# ---- what was found -----------------------------------------------------------------------------

def predicted(output: dict, spin: Spin) -> dict[str, Tensor]:
    """Return the found bodies: pose (B, 72), betas (B, 10), pred_cam (B, 3), joints (B, 49, 3)."""
    return {'pose': matrix_to_axis_angle(output['rotations']).flatten(1), 'betas': output['betas'],
            'pred_cam': output['camera'], 'joints': spin(output['betas'], output['rotations'])}


def save_predicted(path: Path, found: dict, people: People) -> None:
    """Write the bodies as .npz, or as .csv a row of 49 x 3 numbers in metres for each sample.

    Row i belongs to row i of the set.
    """
    arrays = {key: found[key].numpy() for key in ('pose', 'betas', 'pred_cam', 'joints')}
    names = {'imgname': people.set['imgname']} if 'imgname' in people.set else {}
    if path.suffix == '.npz':
        write_npz(path, arrays | names)
    else:
        with atomic(path, 'w') as file:
            np.savetxt(file, arrays['joints'].reshape(len(people), -1), '%.6f', delimiter=',')
    print(f'wrote {len(people):,} bodies to {path}')


# ---- the command line ---------------------------------------------------------------------------

def make_parser() -> Parser:
    """Make the parser of the score."""
    parser = Parser(
        prog='python -m pare.eval', description='Score a regressor of the SMPL body. '
        '"python -m pare.eval run --help": on a photograph.',
        epilog='example: python -m pare.eval pareModel --data 3dpw_test.npz --images /data '
               '--body smpl')
    option = parser.add_argument
    option('model', type=Path, nargs='?', default=SHIPPED,
           help='weights, or the state of an unfinished training')
    option('--data', type=Path, metavar='FILE', help='a set, .npz; default: rendered people')
    option('--images', type=Path, default=Path(), metavar='FOLDER',
           help='folder to which imgname is relative')
    option('--gt-gender', choices=('file', 'neutral'), default='file',
           help='gender of the true body')
    option('--predict', type=Path, metavar='OUT', help='save the bodies of --data, with truth or '
           'without: .npz, or .csv of 49 x 3 numbers a row')
    option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='pictures')
    option('--sensitivity', action='store_true', help='also draw the occlusion sensitivity')
    option('--body', type=Path, metavar='FILE|FOLDER', help='SMPL model, or folder of '
           'SMPL_NEUTRAL, _MALE and _FEMALE; default: a stand-in')
    option('--workers', type=bounded(int, 0), metavar='N', help='processes that read photographs; '
           'default: as many as cores, at most 8')
    add_device(parser)
    return parser


def main(argv=None) -> None:
    """Score, or run on a photograph."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ['run']:
        return photo.main(argv[1:])
    parser = make_parser()
    args = parser.parse_args(argv)
    with exit_status(parser):
        score(args)


if __name__ == '__main__':
    main()
