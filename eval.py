"""Scores a trained LiftModel, and lifts poses that have no ground truth.

    python eval.py liftModel                     # on data_test_lift.pkl of this folder
    python eval.py liftModel --data data_test.pkl --predict joints.npy
"""
import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

import plots
from data import BONES, JOINTS, TEST_FILE, atomic, find_bones, find_sign, load, make_people
from metrics import cal_joint_error, cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe, cal_pck
from model import LiftModel, pick_device


def load_model(path: Path, device: torch.device) -> LiftModel:
    """Reads the state_dict of a LiftModel of any size. Raises ValueError where the file is none."""
    try:
        with warnings.catch_warnings(action='ignore'):  # on the way to refusing a file
            state = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected weights of a LiftModel') from error
    except Exception as error:  # what is no checkpoint can raise nearly anything
        raise ValueError(f'{path}: found no checkpoint of plain weights, expected the state_dict '
                         f'of a LiftModel') from error
    try:
        return LiftModel.from_state_dict(state).to(device)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def score(args: argparse.Namespace) -> None:
    """Lifts the poses of a file; saves, prints and draws what there is."""
    device = pick_device(args.device)
    model = load_model(args.model, device)
    if args.data == Path(TEST_FILE):
        make_people()
    poses = load(args.data, need=('joint_2d_1',))
    n_joints = model.mean_2d.numel() // 2
    if poses['joint_2d_1'].shape[1] != n_joints:
        raise ValueError(f'{args.data}: key joint_2d_1: found {poses["joint_2d_1"].shape[1]} '
                         f'joints, expected {n_joints} as in {args.model}')
    args.plots.mkdir(parents=True, exist_ok=True)
    predicted = model.lift(torch.from_numpy(poses['joint_2d_1']).to(device)).cpu().numpy()
    if args.predict:
        with atomic(args.predict) as file:
            np.save(file, predicted)

    joint_2d, truth = poses['joint_2d_1'], poses.get('joint_3d')
    bones = find_bones(predicted if truth is None else truth, known=BONES)
    names = JOINTS if bones == BONES else None
    if truth is None:
        print(f'{args.data}: no joint_3d, so {len(predicted):,} poses were lifted without a score')
        rows = {f'pose {row}': row for row in (0, len(predicted) // 2, len(predicted) - 1)}
    else:
        labels = names or [f'joint {number}' for number in range(n_joints)]
        report(predicted, truth, labels)
        rows = draw_errors(predicted, truth, labels, args.plots)
        joint_2d = joint_2d * find_sign(poses)  # up is up in the picture too
    gallery = [(title, joint_2d[row], None if truth is None else truth[row], predicted[row])
               for title, row in rows.items()]
    plots.draw_gallery(gallery, bones, names, args.plots / 'gallery.png')
    print(f'\nwrote charts to {args.plots}', f'and joints to {args.predict}' * bool(args.predict))


def report(predicted: np.ndarray, truth: np.ndarray, labels) -> None:
    """Prints the errors of poses (N, J, 3)."""
    mpjpe, (pck, auc) = cal_mpjpe(predicted, truth), cal_pck(predicted, truth)
    print(f'''MPJPE {mpjpe:.5f}
{len(truth):,} poses of {len(labels)} joints without the root; unit: distance from camera to root

MPJPE     {mpjpe:.5f}  nothing aligned
N-MPJPE   {cal_n_mpjpe(predicted, truth):.5f}  scale aligned
PA-MPJPE  {cal_pa_mpjpe(predicted, truth):.5f}  rotation, scale and position aligned
PCK       {100 * pck[-1]:6.2f}%  of joints within 0.03 (150 mm at 5 m)
AUC       {100 * auc:6.2f}%  under the PCK curve from 0 to 0.03

joint      mean error''')
    for label, error in zip(labels, cal_joint_error(predicted, truth)):
        print(f'{label:9}  {error:.5f}')


def draw_errors(predicted: np.ndarray, truth: np.ndarray, labels, folder: Path) -> dict[str, int]:
    """Draws the charts of the errors; returns title and row of the best, median and worst pose."""
    joints = np.linalg.norm(predicted - truth, axis=-1)
    error = joints.mean(axis=1)
    plots.draw_joint_error(joints.mean(axis=0), labels, folder / 'joint_error.png')
    plots.draw_error_curve({'joints': joints, 'poses': error}, folder / 'error_curve.png')
    order = error.argsort()
    rows = {'best': order[0], 'median': order[len(order) // 2], 'worst': order[-1]}
    return {f'{title}, error {error[row]:.4f}': row for title, row in rows.items()}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description='Scores a LiftModel on pickled 2D and 3D joints.',
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = lambda message: parser.exit(2, f'eval.py: {message}\n')
    option = parser.add_argument
    option('model', type=Path, nargs='?', default='liftModel', help='weights of any size')
    option('--data', type=Path, default=TEST_FILE, metavar='FILE',
           help='dictionary with joint_2d_1, and to score it joint_3d')
    option('--predict', type=Path, metavar='OUT.npy', help='save the lifted joints (N, J, 3)')
    option('--plots', type=Path, default='plots', metavar='FOLDER', help='folder for the charts')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    try:
        score(parser.parse_args(argv))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
