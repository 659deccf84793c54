"""Scores a trained LiftModel, and lifts poses that have no ground truth.

    python eval.py liftModel                     # on data_test_lift.pkl of this folder
    python eval.py liftModel --data data_test.pkl --predict joints.npy
"""
import argparse
import os
import signal
import sys
import warnings

if __name__ == '__main__':  # while torch is imported, Ctrl-C ends in a line too
    signal.signal(signal.SIGINT, lambda *_: os._exit(os.write(2, b'interrupted\n') and 130))

from pathlib import Path

import numpy as np
import torch

import plots
from data import (BONES, JOINTS, TEST_FILE, atomic, check_root, find_bones, find_sign, load,
                  make_people)
from metrics import cal_joint_error, cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe, cal_pck
from model import LiftModel, pick_device

PIECE = 10_000  # poses that are scored at once
FAR = 3.        # standard deviations from the training's 2D joints that call for a warning


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
    poses = read_poses(args.data, model, args.model)
    joint_2d, truth = torch.from_numpy(poses['joint_2d_1']), poses.get('joint_3d')
    warn_if_far(joint_2d, model)
    args.plots.mkdir(parents=True, exist_ok=True)
    predicted = model.lift(joint_2d.to(device)).cpu().numpy()
    if args.predict:
        with atomic(args.predict) as file:
            np.save(file, predicted)

    bones = find_bones(predicted if truth is None else truth, known=BONES)
    names, sign = JOINTS if bones == BONES else None, 1
    if truth is None:
        print(f'{args.data}: no joint_3d, so {len(predicted):,} poses were lifted without a score')
        rows = {f'pose {row}': row for row in (0, len(predicted) // 2, len(predicted) - 1)}
    else:
        labels = names or [f'joint {number}' for number in range(predicted.shape[1])]
        report(predicted, truth, labels)
        rows = draw_errors(joint_errors(predicted, truth), labels, args.plots)
        sign = find_sign({key: poses[key][::len(truth) // PIECE + 1]
                          for key in ('joint_2d_1', 'joint_3d')})  # up is up in the picture too
    gallery = [(title, sign * poses['joint_2d_1'][row], None if truth is None else truth[row],
                predicted[row]) for title, row in rows.items()]
    plots.draw_gallery(gallery, bones, names, args.plots / 'gallery.png')
    print(f'\nwrote charts to {args.plots}', f'and joints to {args.predict}' * bool(args.predict))


def read_poses(path: Path, model: LiftModel, weights: Path) -> dict[str, np.ndarray]:
    """joint_2d_1 and, where it is there, joint_3d; ValueError for what the model cannot lift or
    what cannot be scored."""
    poses, n_joints = load(path, need=('joint_2d_1',)), model.mean_2d.numel() // 2
    if poses['joint_2d_1'].shape[1] != n_joints:
        raise ValueError(f'{path}: key joint_2d_1: found {poses["joint_2d_1"].shape[1]} joints, '
                         f'expected {n_joints} as in {weights}')
    try:
        if 'joint_3d' in poses:
            check_root(poses['joint_3d'])
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    return {key: poses[key] for key in ('joint_2d_1', 'joint_3d') if key in poses}


def warn_if_far(joint_2d: torch.Tensor, model: LiftModel) -> None:
    """Says so where 2D joints (N, J, 2) are not like those that the model was trained on."""
    some = joint_2d[::len(joint_2d) // PIECE + 1].flatten(1).to(model.mean_2d.device)
    deviation = ((some - model.mean_2d) / model.std_2d).square().mean().sqrt()
    if deviation > FAR:
        print(f'warning: the 2D joints lie {deviation:.1f} standard deviations from those of the '
              f'training, expected about 1; are they pixels, is y down, or the order of joints '
              f'another?', file=sys.stderr)


def pieces(predicted: np.ndarray, truth: np.ndarray):
    """Both in parts of PIECE poses, so that scores need little memory."""
    return zip(*(torch.from_numpy(poses).split(PIECE) for poses in (predicted, truth)))


def joint_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distances (N, J)."""
    return torch.cat([torch.linalg.vector_norm(one - other, dim=-1)
                      for one, other in pieces(predicted, truth)]).numpy()


def report(predicted: np.ndarray, truth: np.ndarray, labels) -> None:
    """Prints the errors of poses (N, J, 3)."""
    shares = [len(part) / len(truth) for part, _ in pieces(predicted, truth)]

    def mean(metric):
        return sum(share * metric(one, other).double()
                   for share, (one, other) in zip(shares, pieces(predicted, truth)))

    mpjpe = mean(cal_mpjpe)
    pck, auc = mean(lambda *poses: cal_pck(*poses)[0])[-1], mean(lambda *poses: cal_pck(*poses)[1])
    print(f'''MPJPE {mpjpe:.5f}
{len(truth):,} poses of {len(labels)} joints without the root; unit: distance from camera to root

MPJPE     {mpjpe:.5f}  nothing aligned
N-MPJPE   {mean(cal_n_mpjpe):.5f}  scale aligned
PA-MPJPE  {mean(cal_pa_mpjpe):.5f}  rotation, scale and position aligned
PCK       {100 * pck:6.2f}%  of joints within 0.03 (150 mm at 5 m)
AUC       {100 * auc:6.2f}%  under the PCK curve from 0 to 0.03

joint      mean error''')
    for label, error in zip(labels, mean(cal_joint_error)):
        print(f'{label:9}  {error:.5f}')


def draw_errors(joints: np.ndarray, labels, folder: Path) -> dict[str, int]:
    """Draws the charts of the errors of joints (N, J); returns title and row of the best, median
    and worst pose."""
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
    except BrokenPipeError:  # nobody reads what is printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 130
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
