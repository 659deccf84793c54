"""Score a trained LiftModel, or lift poses that have no ground truth.

    python eval.py liftModel                     # on data_test_lift.pkl of this folder
    python eval.py liftModel --data data_test.pkl --predict joints.npy
    python eval.py liftModel --keypoints people.json --image-size 1920 1080 --predict joints.npy
"""
import argparse
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch

from common import charts
from common.axes import as_camera, check_root, some_rows, wrong_distance
from common.camera import ROOT
from common.command import Parser, add_device, bounded, exit_status, keep_inputs, pick_device
from common.detector import from_array
from common.files import errors_of, make_folder, save_array
from common.film import animate
from common.lifting import lift_people
from common.photo import lift_photograph
from common.skeleton import BONES, JOINTS, find_bones, with_root
from common.states import load_tensors
from data import TEST_FILE, load, make_people
from metrics import cal_n_mpjpe, cal_pa_mpjpe, pck_of
from model import LiftModel

SOME = 10_000  # poses aligned at once; `warn_if_far` looks at no more than these
FAR = 3.       # standard deviations from the training's 2D joints that call for a warning


def load_model(path, device='cpu') -> LiftModel:
    """Read the state_dict of a LiftModel of any size, or a training's state, ready to lift.

    Raises OSError for a file that cannot be opened, ValueError for anything but such weights.
    """
    state = load_tensors(path, 'the state_dict of a LiftModel')
    for key in ('model_state_dict', 'state_dict', 'parts', 'model', 'net', 'model_state'):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]  # other projects wrap it so, and our states do
    with errors_of(path):
        return LiftModel.from_state_dict(state).to(device).eval()


# ---- the score ----------------------------------------------------------------------------------

def score_file(args: argparse.Namespace) -> None:
    """Lift the poses of a file; save, draw and score them."""
    device = pick_device(args.device)
    model = load_model(args.model, device)
    if args.data == Path(TEST_FILE):
        make_people()
    data = read_data(args.data, model, args.model)
    joint_2d, truth = data['joint_2d_1'], data.get('joint_3d')
    warn_if_far(joint_2d, model)
    make_folder(args.plots)
    predicted = model.lift(torch.from_numpy(joint_2d).to(device)).cpu().numpy()
    if args.predict:
        save_array(args.predict, predicted)

    # the bones of the lab imply its order of joints
    bones = find_bones(predicted if truth is None else truth, known=BONES)
    names = JOINTS if bones == BONES else None
    labels = names or [f'joint {number}' for number in range(predicted.shape[1])]
    if truth is None:
        rows = {f'pose {row}': row for row in (0, len(predicted) // 2, len(predicted) - 1)}
    else:
        distances = cal_distances(predicted, truth)
        rows = draw_errors(distances, labels, args.plots)
    sign = np.where(model.inverse_focal.cpu().numpy() < 0, -1, 1)  # y up in the picture too
    gallery = [(title, sign * joint_2d[row], None if truth is None else truth[row], predicted[row])
               for title, row in rows.items()]
    charts.draw_gallery(gallery, bones, names, args.plots / 'gallery.png')
    if args.animate:
        animate(with_root(sign * joint_2d, (0, 0))[:, None], with_root(predicted, ROOT)[:, None],
                bones, names, args.animate)
    if truth is None:
        print(f'{args.data}: no joint_3d, so {len(predicted):,} poses were lifted without a score')
    else:
        report(predicted, truth, distances, labels)
    print_written(args)


def read_data(path: Path, model: LiftModel, weights: Path) -> dict[str, np.ndarray]:
    """Load joint_2d_1, scaled to the model's focal lengths, and, if there is one, joint_3d.

    Raises ValueError for poses that the model cannot lift or that cannot be scored.
    """
    data = load(path, need=('joint_2d_1',))
    with errors_of(path):
        if data['joint_2d_1'].shape[1] != model.n_joints:
            raise ValueError(f'key joint_2d_1: found {data["joint_2d_1"].shape[1]} joints, '
                             f'expected {model.n_joints} as in {weights}')
        if 'joint_3d' in data:
            check_root(data['joint_3d'])
    inverse_focal = model.inverse_focal.cpu().numpy()
    if (np.abs(inverse_focal) > .1).all():  # else no camera explained the training
        data['joint_2d_1'] = as_camera(data, 1 / inverse_focal)
    return data


def warn_if_far(joint_2d: np.ndarray, model: LiftModel) -> None:
    """Warn if 2D joints (N, J, 2) are not like those that the model was trained on."""
    some = torch.from_numpy(joint_2d[::len(joint_2d) // SOME + 1]).flatten(1)
    deviation = ((some - model.mean_2d.cpu()) / model.std_2d.cpu()).square().mean().sqrt()
    if deviation > FAR:
        print(f'warning: the 2D joints lie {deviation:.1f} standard deviations from those of the '
              f'training, expected about 1; are they in pixels, does y point down, or are the '
              f'joints in another order?', file=sys.stderr)


def cal_distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the distance of each joint (N, J), with little memory."""
    return np.concatenate([np.linalg.norm(predicted[rows:rows + SOME] - truth[rows:rows + SOME],
                                          axis=2) for rows in range(0, len(truth), SOME)])


def report(predicted: np.ndarray, truth: np.ndarray, distances: np.ndarray, labels) -> None:
    """Print the errors of poses (N, J, 3), whose joints are off by distances (N, J)."""
    def aligned(metric):  # in parts, since alignments take much memory
        parts = zip(*(torch.from_numpy(poses).split(SOME) for poses in (predicted, truth)))
        return torch.cat([metric(*part, avg=False).double() for part in parts]).mean()

    def both(error):
        return f'{error:.5f}  {charts.CM * error:4.1f} cm'

    mpjpe, (curve, auc) = distances.mean(dtype=float), pck_of(torch.from_numpy(distances))
    print(f'''MPJPE {mpjpe:.5f}
{len(truth):,} poses of {len(labels)} joints without the root
unit: distance from camera to root; cm: for people 4.5 m away

MPJPE     {both(mpjpe)}  nothing aligned
N-MPJPE   {both(aligned(cal_n_mpjpe))}  scale aligned
PA-MPJPE  {both(aligned(cal_pa_mpjpe))}  rotation, scale and position aligned
PCK       {100 * curve[-1]:6.2f}%         of joints within 0.03 (150 mm at 5 m)
AUC       {100 * auc:6.2f}%         under the PCK curve from 0 to 0.03

joint     mean error''')
    for label, error in zip(labels, distances.mean(axis=0, dtype=float)):
        print(f'{label:9} {both(error)}')
    wrong = wrong_distance(truth)
    if wrong.any() and not wrong.all():
        print(f'\nMPJPE {distances[~wrong].mean():.5f} without rows '
              f'{some_rows(np.flatnonzero(wrong))} ({wrong.sum()} in all): their root is not at '
              f'distance about 1')


def draw_errors(distances: np.ndarray, labels, folder: Path) -> dict[str, int]:
    """Draw errors (N, J); return title and row of the best, median and worst pose."""
    error = distances.mean(axis=1)
    charts.draw_joint_error(distances.mean(axis=0), labels, folder / 'joint_error.png')
    charts.draw_error_curve({'joints': distances, 'poses': error}, folder / 'error_curve.png')
    order = error.argsort()
    rows = {'best': order[0], 'median': order[len(order) // 2], 'worst': order[-1]}
    return {f'{title}, error {error[row]:.4f}': row for title, row in rows.items()}


def print_written(args: argparse.Namespace) -> None:
    files = {'charts': args.plots, 'joints': args.predict, 'a turning skeleton': args.animate}
    print('\nwrote ' + ', '.join(f'{what} to {path}' for what, path in files.items() if path))


# ---- a photograph -------------------------------------------------------------------------------

def lift_photo(args: argparse.Namespace) -> None:
    """Lift the people of a detector's file; save and draw their joints."""
    model = load_model(args.model, pick_device(args.device))
    if model.n_joints != len(JOINTS):
        raise ValueError(f'{args.model}: found weights for {model.n_joints} joints, expected '
                         f'{len(JOINTS)}')
    lift_photograph(model, args)
    print_written(args)


def lift_keypoints(points, image_size, focal: float | None = None,
                   height: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Lift a detector's points (N, K, 2 or 3) or (K, 2 or 3) in pixels with the shipped weights.

    image_size is (W, H) in pixels, `focal` in pixels, by default the diagonal; `height` in metres.
    Returns joints (N, 15, 3) in the frame of the camera, and which of them were filled in (N, 15).
    Joints are in metres with a height, else in distances from the camera to the root; people with
    too few points are NaN. Raises ValueError for points of no known format or if nobody has enough.
    """
    found = lift_people(shipped_model(), from_array(points), image_size, focal, height)
    if found['odd'].any():
        rows = np.flatnonzero(found['kept'])[found['odd']]
        warnings.warn(f'the points of person {some_rows(rows)} do not look like those of a person')
    return found['joint_3d'], ~found['seen']


@cache
def shipped_model() -> LiftModel:
    return load_model(Path(__file__).with_name('liftModel'))


# ---- the command line ---------------------------------------------------------------------------

def find_weights() -> Path:
    here = Path('liftModel')
    return here if here.exists() else Path(__file__).with_name('liftModel')


def make_parser() -> Parser:
    parser = Parser(prog='eval.py',
                    description='Scores a LiftModel, or lifts the people of a photograph.')
    option = parser.add_argument
    option('model', type=Path, nargs='?', default=find_weights(), help='weights of any size')
    source = parser.add_mutually_exclusive_group().add_argument
    source('--data', type=Path, default=TEST_FILE, metavar='FILE',
           help='dictionary with joint_2d_1; for a score also joint_3d')
    source('--keypoints', type=Path, metavar='FILE',
           help="a detector's points in pixels: .json, .npy or a folder of frames")
    option('--image', type=Path, metavar='FILE', help='the photograph of --keypoints, to draw on')
    option('--image-size', type=bounded(int, 1), nargs=2, metavar=('W', 'H'),
           help='with --keypoints: size in pixels; default: that of --image')
    option('--focal', type=bounded(float, 1), metavar='F',
           help='with --keypoints: focal length in pixels; default: from EXIF, else the diagonal')
    option('--centre', type=bounded(float, -1e6, 1e6), nargs=2, metavar=('CX', 'CY'),
           help='with --keypoints: principal point in pixels, for a crop; default: the middle')
    option('--height', type=bounded(float, .3, 3), metavar='M',
           help='with --keypoints: height of each person in metres; without it each root is at '
                'distance 1')
    option('--fps', type=bounded(float, 1, 1000), metavar='N', help='the rows of --keypoints are '
           'frames of one person, or of several with ids; joints are smoothed, --animate is a film')
    option('--predict', type=Path, metavar='OUT.npy',
           help='save the lifted joints (N, J, 3); with --keypoints also .json')
    option('--animate', type=Path, metavar='OUT.gif', help='draw a turning skeleton')
    option('--plots', type=Path, default='plots', metavar='FOLDER', help='folder for the charts')
    add_device(parser)
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    keep_inputs({'MODEL': args.model, '--data': args.data, '--keypoints': args.keypoints,
                 '--image': args.image},
                {'--predict': args.predict, '--animate': args.animate}
                | {f'--plots, {name}': args.plots / name for name in ('people.png', 'gallery.png')})
    for name, suffixes in (('predict', ['.npy'] + ['.json'] * bool(args.keypoints)),
                           ('animate', ['.gif'])):
        path = getattr(args, name)
        if path and path.suffix not in suffixes:
            raise ValueError(f'--{name}: found {path}, expected a name that ends in '
                             f'{" or ".join(suffixes)}')
    for name in ('image', 'image_size', 'focal', 'centre', 'height', 'fps'):
        if getattr(args, name) and not args.keypoints:
            raise ValueError(f'--{name.replace("_", "-")}: found no --keypoints, expected both')
    if args.keypoints and not (args.image_size or args.image):
        raise ValueError('--keypoints: found no --image-size, expected width and height in pixels')


def main(argv=None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    with exit_status(parser):
        check_options(args)
        (lift_photo if args.keypoints else score_file)(args)


if __name__ == '__main__':
    main()
