"""Scores a trained LiftModel, and lifts poses that have no ground truth.

    python eval.py liftModel                     # on data_test_lift.pkl of this folder
    python eval.py liftModel --data data_test.pkl --predict joints.npy
    python eval.py liftModel --keypoints people.json --image-size 1920 1080 --predict joints.npy
"""
import argparse
import json
import math
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
from data import (BONES, JOINTS, POINT_WEIGHTS, TEST_FILE, atomic, check_root, find_bones,
                  find_sign, joints_of, load, make_people, numbers, one_line, project, sample,
                  smallest_rotation)
from metrics import cal_joint_error, cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe, cal_pck
from model import LiftModel, pick_device
from training import Parser, bounded, status

PIECE = 10_000  # poses that are scored at once
FAR = 3.        # standard deviations from the training's 2D joints that call for a warning


def load_model(path, device='cpu') -> LiftModel:
    """Reads the state_dict of a LiftModel of any size, ready to lift.

    Raises OSError for a file that cannot be opened, ValueError for one that holds something else.
    """
    try:
        with warnings.catch_warnings(action='ignore'):  # on the way to refusing a file
            state = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected weights of a LiftModel') from error
    except Exception as error:  # what is no checkpoint can raise nearly anything
        raise ValueError(f'{path}: found no checkpoint of plain weights, expected the state_dict '
                         f'of a LiftModel') from error
    try:
        return LiftModel.from_state_dict(state).to(device).eval()
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
    names = JOINTS if bones == BONES else None
    if truth is None:
        print(f'{args.data}: no joint_3d, so {len(predicted):,} poses were lifted without a score')
        rows = {f'pose {row}': row for row in (0, len(predicted) // 2, len(predicted) - 1)}
        sign = np.where(model.inverse_focal.cpu() < 0, -1, 1)  # up is up in the picture too
    else:
        labels = names or [f'joint {number}' for number in range(predicted.shape[1])]
        report(predicted, truth, labels)
        rows = draw_errors(joint_errors(predicted, truth), labels, args.plots)
        sign = find_sign({key: poses[key][::len(truth) // PIECE + 1]
                          for key in ('joint_2d_1', 'joint_3d')})
    gallery = [(title, sign * poses['joint_2d_1'][row], None if truth is None else truth[row],
                predicted[row]) for title, row in rows.items()]
    plots.draw_gallery(gallery, bones, names, args.plots / 'gallery.png')
    if args.animate:
        plots.animate(sign * poses['joint_2d_1'], predicted, bones, names, args.animate)
    print_written(args)


def print_written(args: argparse.Namespace) -> None:
    files = {'charts': args.plots, 'joints': args.predict, 'a turning skeleton': args.animate}
    print('\nwrote ' + ', '.join(f'{what} to {path}' for what, path in files.items() if path))


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


# ---- points of detectors ------------------------------------------------------------------------
# They are lifted on the plane at distance 1 before the camera, x right, y up, and come out in the
# frame of the camera: it is at the origin, looks down -z, y is up.

# How many points a format has of a person: its name, and where it has those of POINTS.
FORMATS = {17: ('COCO', (0, 3, 4, 12, 14, 16, 11, 13, 15, 5, 7, 9, 6, 8, 10)),
           25: ('BODY_25', (0, 18, 17, 9, 10, 11, 12, 13, 14, 5, 6, 7, 2, 3, 4)),
           33: ('MediaPipe', (0, 7, 8, 24, 26, 28, 23, 25, 27, 11, 13, 15, 12, 14, 16))}
CONFIDENT = .3  # a point with less is filled in
FEWEST = 9      # joints: a person with less, such as one without hips and legs, is left out
ROUNDS = 3      # 1 is 2 mm worse, more than 3 change nothing
SIZE = .85      # sum of the bones of synthetic people, in distances from the camera to the root
TALL = 2.23     # the same over their height, where legs are 0.491 of the height (Winter, 2009)
AXIS = np.array([0, 0, -1.])


def lift_people(args: argparse.Namespace) -> None:
    """Lifts the people of a detector's file; saves and draws their joints."""
    model = load_model(args.model, pick_device(args.device))
    if model.mean_2d.numel() != 2 * len(JOINTS):
        raise ValueError(f'{args.model}: found weights for {model.mean_2d.numel() // 2} joints, '
                         f'expected {len(JOINTS)}')
    points, kind = read_people(args.keypoints)
    focal = args.focal or math.hypot(*args.image_size)
    joint_2d, seen = to_plane(points, args.image_size, focal)
    in_picture = ((points[..., :2] >= 0) & (points[..., :2] <= args.image_size)).all(axis=2)
    if in_picture.mean() < .5:
        print('warning: most points lie outside of the picture; is --image-size W H that of the '
              'picture?', file=sys.stderr)
    enough = seen[:, :-1].sum(axis=1) >= FEWEST
    kept, left_out = np.flatnonzero(enough), ', '.join(map(str, np.flatnonzero(~enough)))
    if not len(kept):
        raise ValueError(f'{args.keypoints}: found nobody with {FEWEST} of {len(JOINTS)} joints, '
                         f'expected points with confidences of at least {CONFIDENT}')
    print(f'{args.keypoints}: {len(seen):,} people of {kind}, focal length {focal:.0f} pixels, '
          f'{(~seen[kept, :-1]).sum():,} of {seen[kept, :-1].size:,} joints filled in')
    if left_out:
        print(one_line(f'left out, less than {FEWEST} of {len(JOINTS)} joints: person {left_out}'))
    joint_3d, shown, lifted = lift_points(model, fill_in(joint_2d[kept], seen[kept]))
    if args.height:
        joint_3d *= args.height * TALL / bone_sum(joint_3d[:, :-1] - joint_3d[:, -1:])
    args.plots.mkdir(parents=True, exist_ok=True)
    if args.predict:
        with atomic(args.predict) as file:
            np.save(file, joint_3d[:, :-1].astype(np.float32))
    plots.draw_gallery([(f'person {kept[row]}', shown[row], None, lifted[row])
                        for row in dict.fromkeys((0, len(kept) // 2, len(kept) - 1))],
                       BONES, JOINTS, args.plots / 'gallery.png')
    if args.animate:
        plots.animate(shown, lifted, BONES, JOINTS, args.animate)
    print_written(args)


def read_people(path: Path) -> tuple[np.ndarray, str]:
    """Points (N, 15, 3) as in POINTS, each x and y in pixels and a confidence, and their format.

    Reads COCO's results and OpenPose's BODY_25 from .json; from .npy arrays (N, 17, 2 or 3),
    (N, 25, 2 or 3) or, MediaPipe's x, y, z, visibility, (N, 33, 2 to 5). A point at (0, 0) is none;
    without confidences all others are certain. Where not both ears are seen the nose is taken for
    either. Raises OSError, and ValueError for what is none of these.
    """
    try:
        found = (json.loads(path.read_bytes()) if path.suffix == '.json' else
                 np.load(path, mmap_mode='r'))  # lays out no memory that the file does not fill
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected points of a detector') from error
    except Exception as error:  # what is neither can raise nearly anything
        reason = one_line(error) if path.suffix == '.json' else 'no array of numbers'
        raise ValueError(f'{path}: found no readable file ({reason}), expected .json or '
                         f'.npy') from error
    try:
        points = as_points(found)
    except ValueError as error:
        raise ValueError(f'{path}: {one_line(error)}') from error
    kind, table = FORMATS[points.shape[1]]
    points = points[:, table].astype(float)
    points[..., 2] *= points[..., :2].any(axis=2)
    ears = points[:, 1:3]
    both = (ears[..., 2:] >= CONFIDENT).all(axis=1, keepdims=True)
    points[:, 1:3] = np.where(both, ears, points[:, :1])
    return points, kind


def as_points(found) -> np.ndarray:
    """Points (N, 17, 25 or 33, 3) of an array, of one person or of many, or of what a .json file
    holds, or ValueError."""
    if not isinstance(found, np.ndarray):
        key, people = (('keypoints', found) if isinstance(found, list) else
                       ('pose_keypoints_2d', found.get('people') if isinstance(found, dict) else 0))
        if not isinstance(people, list) or not people or not all(
                isinstance(person, dict) and key in person for person in people):
            raise ValueError("found no people with points, expected COCO's list of results with "
                             "keypoints, OpenPose's people with pose_keypoints_2d, or a .npy array")
        found = numbers(key, [person[key] for person in people])
        found = found.reshape(len(found), -1, 3) if found[0].size % 3 == 0 else found
    array = numbers('points', np.asarray(found))
    array = array[None] if array.ndim == 2 else array
    n_points, width = array.shape[1:] if array.ndim == 3 else (0, 0)
    if n_points not in FORMATS or not 2 <= width <= (5 if n_points == 33 else 3):
        raise ValueError(f'found points of shape {found.shape}, expected (N, 17, 2 or 3), '
                         f'(N, 25, 2 or 3) or (N, 33, 2 to 5)')
    if (most := np.abs(array[..., :2]).max()) <= 2:
        raise ValueError(f'found coordinates of at most {most:g}, expected pixels; multiply by '
                         f'width and height')
    column = 3 if n_points == 33 else 2
    confidence = array[..., column:column + 1] if width > column else np.ones_like(array[..., :1])
    return np.concatenate([array[..., :2], confidence], axis=2)


def to_plane(points: np.ndarray, size, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N, 16, 2), the root last, of points as in POINTS (N, 15, 3), and which are seen."""
    plane = (points[..., :2] - np.divide(size, 2)) / (focal, -focal)
    return joints_of(plane), visible(points[..., 2] < CONFIDENT)


def visible(hidden: np.ndarray) -> np.ndarray:
    """Joints and root (N, 16) that need none of the hidden points (N, 15)."""
    return ~(hidden @ (POINT_WEIGHTS.T != 0))


def fill_in(joint_2d: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Joints (N, 16, 2) with those that are not `seen` (N, 16) where they are to be expected.

    That is the mean of a normal distribution under the condition of the joints that are seen. Mean
    and covariance are those of synthetic people, brought to the place and the size of these joints.
    """
    people = joints_of(sample(2000, seed=0)['joint_detected'])
    people = project(people - people[:, -1:] + AXIS, np.ones(2))
    mean = people.mean(axis=0)
    covariance = np.cov(people.reshape(len(people), -1).T)
    covariance += np.tile(np.eye(2), (16, 16))  # all of it may be moved
    filled = joint_2d.copy()
    for row in np.flatnonzero(~seen.all(axis=1)):
        known, each = seen[row], np.repeat(seen[row], 2)
        size = max(spread(joint_2d[row, known]) / spread(mean[known]), 1e-9)
        move = (joint_2d[row, known] / size - mean[known]).mean(axis=0)
        change = (joint_2d[row] / size - mean - move).ravel()[each]
        within = covariance[each][:, each] + 1e-6 * np.eye(len(change))
        change = change @ np.linalg.solve(within, covariance[each][:, ~each])
        filled[row, ~known] = size * (mean[~known] + move + change.reshape(-1, 2))
    return filled


def spread(points: np.ndarray) -> float:
    return np.linalg.norm(points - points.mean(axis=0))


def lift_points(model: LiftModel, joint_2d: np.ndarray) -> tuple[np.ndarray, ...]:
    """Lifts joints (N, 16, 2), the root last, of people anywhere in an image and at any distance.

    The camera is turned to the root, which is exact, and moved along its axis until the person is
    as large as in the training; how that changes the perspective follows from the depth found so
    far. Returns joints (N, 16, 3) in units of the root's distance, and the points (N, 15, 2) and
    joints (N, 15, 3) of the camera that was moved.
    """
    # 1. turn to the root
    rays = np.concatenate([joint_2d, np.full_like(joint_2d[..., :1], -1)], axis=-1)
    turn = smallest_rotation(rays[:, -1] / np.linalg.norm(rays[:, -1], axis=-1, keepdims=True),
                             AXIS)
    plane = project(rays @ turn.mT, np.ones(2))[:, :-1]
    # 2. lift, and see from the results how far to move
    focal_len, depth = 1 / model.inverse_focal.cpu().numpy(), np.ones_like(plane[..., :1])
    pose = np.concatenate([plane, 0 * depth], axis=-1)  # about the root
    for _ in range(ROUNDS):
        scale = SIZE / bone_sum(pose).clip(min=1e-9)
        shown = scale * plane * depth / (1 + scale * (depth - 1))
        lifted = model.lift(focal_len * shown)
        pose = (lifted - AXIS) / scale
        depth = (1 - pose[..., 2:]).clip(min=.2)
    joint_3d = np.concatenate([pose, find_root(pose)], axis=1) + AXIS
    return joint_3d @ turn, shown, lifted


def find_root(pose: np.ndarray) -> np.ndarray:
    """The root (N, 1, 3) of poses (N, 15, 3): above the hips and behind them, the farther the wider
    the shoulders are for the trunk. Fitted to synthetic people."""
    right_hip, left_hip, left, right = (pose[:, JOINTS.index(name)] for name in (
        'RHip', 'LHip', 'LShoulder', 'RShoulder'))
    hips = (right_hip + left_hip) / 2
    up = (left + right) / 2 - hips
    size = np.linalg.norm(up, axis=-1, keepdims=True)
    ahead = np.cross(left_hip - right_hip, up)
    ahead *= size / np.linalg.norm(ahead, axis=-1, keepdims=True).clip(min=1e-9)
    wide = np.linalg.norm(left - right, axis=-1, keepdims=True) / size.clip(min=1e-9)
    wide = wide.clip(.4, 1.1)
    return (hips + (.29 * wide - .065) * up + (.106 - .257 * wide) * ahead)[:, None]


def bone_sum(pose: np.ndarray) -> np.ndarray:
    """Sum of the lengths of the bones (N, 1, 1) of poses (N, 15, 3) about the root."""
    joints = np.concatenate([pose, np.zeros_like(pose[:, :1])], axis=1)
    parents, children = np.transpose(BONES)
    lengths = np.linalg.norm(joints[:, parents] - joints[:, children], axis=-1)
    return lengths.sum(axis=1)[:, None, None]


def check_options(args: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    for name in ('image_size', 'focal', 'height'):
        if getattr(args, name) and not args.keypoints:
            raise ValueError(f'--{name.replace("_", "-")}: found no --keypoints, expected both')
    if args.keypoints and not args.image_size:
        raise ValueError('--keypoints: found no --image-size, expected width and height in pixels')
    if args.focal and args.focal < args.image_size[0] / 4:
        raise ValueError(f'--focal: found {args.focal:g}, expected pixels; if it is in mm on 35 mm '
                         f'film, it is {args.focal * args.image_size[0] / 36:.0f} pixels')


def main(argv=None) -> int:
    parser = Parser(prog='eval.py', description='Scores a LiftModel on pickled 2D and 3D joints.')
    option = parser.add_argument
    option('model', type=Path, nargs='?', default='liftModel', help='weights of any size')
    source = parser.add_mutually_exclusive_group().add_argument
    source('--data', type=Path, default=TEST_FILE, metavar='FILE',
           help='dictionary with joint_2d_1, and to score it joint_3d')
    source('--keypoints', type=Path, metavar='FILE',
           help='points of COCO, BODY_25 or MediaPipe in pixels, .json or .npy')
    option('--image-size', type=bounded(int, 1), nargs=2, metavar=('W', 'H'),
           help='of --keypoints, in pixels')
    option('--focal', type=bounded(float, 1), metavar='F',
           help='of --keypoints, in pixels; without it the diagonal of the picture')
    option('--height', type=bounded(float, .3, 3), metavar='M',
           help='of --keypoints, of each person in metres; without it the unit is the distance')
    option('--predict', type=Path, metavar='OUT.npy', help='save the lifted joints (N, J, 3)')
    option('--animate', type=Path, metavar='OUT.gif', help='draw a turning skeleton')
    option('--plots', type=Path, default='plots', metavar='FOLDER', help='folder for the charts')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    args = parser.parse_args(argv)

    def work():
        check_options(args)
        (lift_people if args.keypoints else score)(args)
    return status(parser, work)


if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
