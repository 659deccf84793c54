"""Learns to lift 2D joints to 3D.

    python training.py                           # data_train_lift.pkl here, or synthetic poses
    python training.py --data data_train.pkl --epochs 8
    python training.py --weak                    # from two views, without 3D
    python training.py --resume                  # goes on where the last training was stopped
"""
import argparse
import csv
import math
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from data import (SUPERVISED, TWO_VIEWS, atomic, check, find_bones, find_focal, load, project,
                  sample, save, settle_views, split_blocks)
from metrics import cal_mpjpe
from model import LiftModel, pick_device

TRAIN_FILE, TEST_FILE = 'data_train_lift.pkl', 'data_test_lift.pkl'
WEAK_FILE = 'data_train.pkl'
LAB_FILES = (TRAIN_FILE, TEST_FILE, WEAK_FILE, 'data_test.pkl')
N_TRAIN, N_TEST = 40_000, 5_000  # synthetic poses, where there is no file
TILT = 6.  # degrees by which the height of virtual cameras differs (standard deviation)
NOISE, RARITY = .06, 12  # of virtual views: the most, in deviations of all points; how rare much is
ROOT = torch.tensor([0., 0., -1.])
torch.zeros(1).sin()  # sets MKL up, which two threads at once may do otherwise in one of 60 runs
COLUMNS = ('epoch', 'loss', 'val_loss', 'train_mpjpe', 'val_mpjpe', 'rate', 'poses_per_s')


# ---- one epoch ----------------------------------------------------------------------------------

def run_epoch(epoch_no, data, model, optimiser, scheduler, batch_size=64,
              split='train') -> tuple[float, float]:
    """One pass over data['joint_2d_1'] (N, J, 2) and data['joint_3d'] (N, J, 3).

    These are arrays or tensors, or both flat. With split='train' the model learns; any other split
    is only scored, without optimiser and scheduler. A model without statistics takes them from the
    first data that it trains on. A scheduler steps once an epoch, but once a batch where it is a
    OneCycleLR or CyclicLR; it may be None. Returns loss and MPJPE, means over samples in the unit
    of joint_3d (here they are the same). Raises ValueError for fewer than 2 samples to train on.
    """
    joint_2d, joint_3d = _joints(data, 'joint_2d_1', 2, model), _joints(data, 'joint_3d', 3, model)
    if split != 'train':
        mpjpe = cal_mpjpe(model.lift(joint_2d), joint_3d).item()
        return mpjpe, mpjpe
    if not model.fitted:
        model.fit(joint_2d, joint_3d)

    def measure(rows):
        mpjpe = cal_mpjpe(model(joint_2d[rows]), joint_3d[rows])
        return mpjpe, mpjpe

    return learn(epoch_no, measure, len(joint_2d), model, optimiser, scheduler, batch_size)


def run_epoch_weak(epoch_no, data, model, optimiser, scheduler, batch_size=64,
                   split='train') -> tuple[float, float]:
    """As run_epoch, but learns from two views: joint_2d_1, joint_2d_2, rot, transl, focal lengths.

    The loss is `weak_loss`. Data that `settle_views` has seen is taken as it is, else it is settled
    here, and samples whose rays are nearly parallel are left out. joint_3d is read for the returned
    MPJPE only, which is nan without it. Raises ValueError too for what `check` and `settle_views`
    refuse.
    """
    if 'triangulated' not in data:
        arrays = {key: value.cpu() if torch.is_tensor(value) else value
                  for key, value in data.items()}
        data, _ = settle_views(check(arrays, TWO_VIEWS))
    views = {key: torch.as_tensor(value, device=model.mean_2d.device)
             for key, value in data.items()}
    if 'turn' not in views:  # of no virtual view
        no_turn = torch.eye(3, device=model.mean_2d.device).expand(len(views['rot']), 3, 3)
        views |= {'virtual_2d': views['joint_2d_1'], 'turn': no_turn}

    def measure(rows, lift=model):
        batch = {key: value[rows] for key, value in views.items()}
        loss, joint_3d = weak_loss(lift, batch)
        return loss, cal_mpjpe(joint_3d.detach(), batch.get('joint_3d', joint_3d * math.nan))

    if split != 'train':
        loss, mpjpe = measure(slice(None), model.lift)
        return loss.item(), mpjpe.item()
    if not model.fitted:
        model.fit(views['joint_2d_1'], views['triangulated'])
    return learn(epoch_no, measure, len(views['rot']), model, optimiser, scheduler, batch_size)


def weak_loss(lift, views: dict, error=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of two views without 3D, and what it lifts of the first: joints (N, J, 3).

    Lifts must reproject onto both views, or have no other error(pose, views) that is given, and
    those of both views must agree. To save time every other sample alone has its second view
    lifted.
    """
    error, half = error or image_error, {key: value[::2] for key, value in views.items()}
    n_samples = len(views['turn'])
    root = -torch.eye(3, device=views['turn'].device)[2]  # made there: graphs allow no copy
    lifts = lift(torch.cat([views['virtual_2d'], half['joint_2d_2']])) - root
    one = lifts[:n_samples] @ views['turn']  # turned back
    two = half['distance'][:, None, None] * lifts[n_samples:] @ half['rot'].view(-1, 3, 3)
    loss = error(one, views) + .5 * (error(two, half) + cal_mpjpe(two, one[::2]))
    return loss, one + root


def image_error(pose: torch.Tensor, views: dict) -> torch.Tensor:
    """Mean distance of joints (N, J, 3) from the points of both views.

    The joints are seen from the root, in the axes of view 1. There is one norm over the offsets in
    both views, each as long as it is at the root, so that a bad point weighs little. The depth that
    divides is kept off zero.
    """
    rot, distance = views['rot'].view(-1, 3, 3), views['distance'][:, None, None]
    offsets = []
    for view, seen, scale in ((1, pose, 1), (2, pose @ rot.mT / distance, distance)):
        depth = .1 + softplus(.9 - seen[..., 2:], beta=20)
        ray = views[f'joint_2d_{view}'] / views['focal_len_1'][:, None]
        offsets.append(scale * (seen[..., :2] / depth - ray))
    return torch.linalg.vector_norm(torch.cat(offsets, dim=-1), dim=-1).mean()


def learn(epoch_no, measure, n_samples, model, optimiser, scheduler, batch_size) -> tuple:
    """Trains on all samples once, in random order: measure(rows) is loss and MPJPE of a batch.

    Returns their means over samples. An optimiser made `capturable` steps in CUDA graphs.
    """
    model.train()
    every_batch = isinstance(scheduler, (OneCycleLR, CyclicLR))
    order = torch.randperm(n_samples, device=model.mean_2d.device)
    batches = split_batches(order, batch_size)
    totals = torch.zeros(2, device=order.device)

    def step(rows):
        loss, mpjpe = measure(rows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        totals.add_(torch.stack([loss.detach(), mpjpe.detach()]), alpha=len(rows))

    if optimiser.param_groups[0].get('capturable'):
        step = captured(step)
    seen, shown = 0, time.perf_counter()
    for number, rows in enumerate(batches):
        step(rows)
        if every_batch:
            scheduler.step()
        seen += len(rows)
        if sys.stdout.isatty() and time.perf_counter() - shown > .2:
            shown = time.perf_counter()
            print(f'\r{epoch_no:5}  {totals[0] / seen:.5f}  batch {number} of {len(batches)} ',
                  end='', flush=True)
    if scheduler is not None and not every_batch:
        scheduler.step()
    return tuple((totals / n_samples).tolist())


def captured(step):
    """step(rows), recorded as a CUDA graph at its second call for a number of rows, then replayed.

    Such small kernels end sooner than the host can launch the next ones; a graph needs no host.
    """
    graphs, side = {}, torch.cuda.Stream()

    def replay(rows):
        if len(rows) not in graphs:  # once as it is: libraries set themselves up
            graphs[len(rows)] = None
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                step(rows)
            torch.cuda.current_stream().wait_stream(side)
            return
        if graphs[len(rows)] is None:
            graph, inputs = torch.cuda.CUDAGraph(), rows.clone()
            with torch.cuda.graph(graph):  # records, and does not run
                step(inputs)
            graphs[len(rows)] = graph, inputs
        graph, inputs = graphs[len(rows)]
        inputs.copy_(rows)
        graph.replay()

    return replay


def _joints(data: dict, key: str, width: int, model: LiftModel) -> torch.Tensor:
    """data[key] as (N, J, width) where the model is; float32 tensors that are there stay as is."""
    joints = torch.as_tensor(data[key], dtype=torch.float32, device=model.mean_2d.device)
    return joints.reshape(len(joints), -1, width)


def split_batches(rows: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, ...]:
    """Cuts rows into batches of batch_size or a little more, so that no sample is left alone.

    Batch normalisation cannot train on one sample: raises ValueError where there is no other way.
    """
    if min(batch_size, len(rows)) < 2:
        raise ValueError(f'found {len(rows)} samples in batches of {batch_size}, expected at least '
                         f'2 of either: batch normalisation cannot train on one')
    return rows.tensor_split(max(1, len(rows) // batch_size))


# ---- the training -------------------------------------------------------------------------------

def train(args: argparse.Namespace, state: dict | None) -> None:
    """Trains by the schedule, from the start or from a state; writes weights, history and charts.

    Raises ValueError or OSError for what a user can mend: before the first epoch, but for a loss
    that is not finite.
    """
    train_set, val_set = prepare(args.data, pick_device(args.device), args.weak)
    for folder in (args.out.parent, args.plots):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # is it writable?
    probe = {key: joints[::20] for key, joints in train_set.items()}  # about as many as val_set
    parts = build(args, train_set)
    history = restore(parts, state) if state else []
    save_state(args, parts, history)  # from now on --resume knows the options
    print('epoch     loss  train MPJPE  val MPJPE      rate  poses/s  time left')
    try:
        while len(history) < args.epochs:
            row = one_row(len(history) + 1, train_set, probe, val_set, args, **parts)
            history.append(row)
            save_state(args, parts, history)
            print_row(row, args.epochs, len(train_set['joint_2d_1']))
    except KeyboardInterrupt:
        finish(args, parts['model'], history)
        print(f'\ninterrupted: {args.out} holds the weights so far; to go on after epoch '
              f'{len(history)}: python training.py --resume --out {args.out}')
        raise
    finish(args, parts['model'], history)
    state_path(args).unlink(missing_ok=True)
    print(f'\nwrote {args.out}, and charts to {args.plots}')


def prepare(path: Path, device: torch.device, weak: bool = False) -> tuple[dict, dict]:
    """Training and validation tensors on the device; where no data lies, it is made first.

    Without 3D the joints to learn are `triangulated`, and joint_3d, if there, only validates.
    """
    if path == Path(TRAIN_FILE) and not any(Path(name).exists() for name in LAB_FILES):
        save(TRAIN_FILE, sample(N_TRAIN, seed=0))
        save(TEST_FILE, sample(N_TEST, seed=1))
        print(f'no data here: wrote synthetic {TRAIN_FILE} and {TEST_FILE}, of different people')
    joints = load(path, TWO_VIEWS if weak else SUPERVISED)
    if weak:
        try:
            joints, found = settle_views(joints)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
    target = target_key(joints)
    with np.errstate(all='ignore'):  # a file whose root is not at (0, 0, -1) may divide by zero
        if not weak:
            joints['focal_len_1'] = find_focal(joints)
        joints['offset'] = joints['joint_2d_1'] - project(joints[target], joints['focal_len_1'])
        projected = joints['offset'].var() < .25 * joints['joint_2d_1'].var()
    train_set, val_set = split_blocks(joints)
    print(f'data: {path}, {len(train_set["joint_2d_1"]):,} poses of {joints[target].shape[1]} '
          f'joints to train, {len(val_set["joint_2d_1"]):,} to validate')
    if weak:
        print(f'views: {found}')
    fx, fy = joints['focal_len_1'].mean(axis=0)
    error = np.linalg.norm(joints['offset'], axis=-1).mean()
    print(f'camera: x = {fx:.4f} X / -Z, y = {fy:.4f} Y / -Z, mean reprojection error {error:.1e}'
          + ('' if projected else '; too large, so there are no virtual views'))
    keys = ('joint_2d_1', 'joint_3d')
    if weak:
        keys += ('joint_2d_2', 'rot', 'distance', 'focal_len_1', 'triangulated')
    extra = ('focal_len_1', 'offset') if projected else ()
    return tuple({key: torch.from_numpy(part[key]).to(device) for key in wanted if key in part}
                 for part, wanted in ((train_set, keys + extra), (val_set, keys)))


def target_key(joints: dict) -> str:
    """The key of the joints that the network learns."""
    return 'triangulated' if 'triangulated' in joints else 'joint_3d'


def virtual_views(train_set: dict) -> dict:
    """The poses as a camera elsewhere sees them: anywhere around the root, a little up or down.

    The distance stays, and so does whatever of joint_2d_1 the camera does not explain. Noise is
    added, nearly none to most poses, so that a detector's does not surprise. Poses are crossed
    before, but not without 3D, where they must be those of the real views: these are kept, beside
    `virtual_2d` (N, J, 2) and the `turn` (N, 3, 3) of the pose. Where joints would come too near to
    the camera a pose is not moved; without focal lengths all stay as they are.
    """
    if 'offset' not in train_set:
        return train_set
    weak, pose = 'triangulated' in train_set, train_set[target_key(train_set)]
    root = ROOT.to(pose.device)
    turn = random_turns(len(pose), pose.device)
    turned = (pose - root if weak else cross(pose - root)) @ turn.mT + root
    far = (turned[..., 2:] < -.1).all(dim=1, keepdim=True)
    turn, turned = turn.where(far, torch.eye(3, device=pose.device)), turned.where(far, pose)
    virtual_2d = project(turned, train_set['focal_len_1']) + train_set['offset']
    noise = NOISE * torch.rand_like(virtual_2d[:, :1, :1]) ** RARITY * virtual_2d.std()
    virtual_2d += noise * torch.randn_like(virtual_2d)
    if weak:
        return train_set | {'virtual_2d': virtual_2d, 'turn': turn}
    return {'joint_2d_1': virtual_2d, 'joint_3d': turned}


def cross(pose: torch.Tensor) -> torch.Tensor:
    """Poses (N, J, 3) about the root, most of them with a limb, or more, as in another pose.

    What lies beyond a random joint takes the directions of its bones from the other pose, after a
    turn about the vertical that makes the two as like as can be; lengths stay. After Li et al.,
    "Cascaded deep monocular 3D human pose estimation with evolutionary training data", CVPR 2020.
    """
    n_poses, n_joints, _ = pose.shape
    paths = torch.eye(n_joints)  # which bones, each named by its outer joint, lead to a joint
    for parent, child in find_bones((pose.cpu() + ROOT).numpy()):  # from the root outwards
        paths[child] += paths[parent] if parent < n_joints else 0
    paths = paths.to(pose.device)
    bones = torch.einsum('jk,nkc->njc', torch.linalg.inv(paths), pose)
    other = bones[torch.randperm(n_poses, device=pose.device)]
    flat, other_flat = (torch.view_as_complex(part[..., [0, 2]]) for part in (bones, other))
    turn = torch.sgn((flat * other_flat.conj()).sum(dim=1, keepdim=True))
    other[..., [0, 2]] = torch.view_as_real(turn * other_flat)
    other *= bones.norm(dim=-1, keepdim=True) / other.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    beyond = paths.mT.bool() & ~torch.eye(n_joints, dtype=bool, device=pose.device)
    taken = beyond[torch.randint(n_joints, (n_poses, 1), device=pose.device)].mT
    return torch.einsum('jk,nkc->njc', paths, other.where(taken, bones))


def random_turns(n: int, device: torch.device) -> torch.Tensor:
    """Rotations (n, 3, 3): about y by any angle, then about x by a few degrees."""
    yaw = 2 * math.pi * torch.rand(n, device=device)
    pitch = math.radians(TILT) * torch.randn(n, device=device)
    (sin, cos), (up, level) = ((angle.sin(), angle.cos()) for angle in (yaw, pitch))
    rows = (cos, 0 * cos, sin, up * sin, level, -up * cos, -level * sin, up, level * cos)
    return torch.stack(rows, dim=-1).view(n, 3, 3)


def build(args: argparse.Namespace, train_set: dict) -> dict:
    """Model with the statistics of the training poses, optimiser and schedule, seeded."""
    torch.manual_seed(args.seed)
    joint_3d = train_set[target_key(train_set)]
    model = LiftModel(args.n_blocks, args.hidden_layer, args.dropout, joint_3d[0].numel())
    model.to(joint_3d.device).fit(train_set['joint_2d_1'], joint_3d)
    optimiser = make_optimiser(model, args.lr)
    n_steps = args.epochs * len(split_batches(joint_3d, args.batch_size))
    n_parameters = sum(weights.numel() for weights in model.parameters())
    print(f'model: {args.n_blocks} blocks of {args.hidden_layer}, {n_parameters:,} parameters, '
          f'on {joint_3d.device.type}\n')
    return {'model': model, 'optimiser': optimiser,
            'scheduler': OneCycleLR(optimiser, args.lr, n_steps, cycle_momentum=False)}


def make_optimiser(model: LiftModel, lr: float) -> torch.optim.Adam:
    """Adam in one kernel; on a GPU its rate is there too, so that graphs can read it."""
    device = model.mean_2d.device
    on_gpu = device.type == 'cuda'
    return torch.optim.Adam(model.parameters(), torch.tensor(lr, device=device) if on_gpu else lr,
                            betas=(.9, .99), fused=True, capturable=on_gpu)


def one_row(epoch_no, train_set, probe, val_set, args, model, optimiser, scheduler) -> list:
    """Trains and measures one epoch: COLUMNS. Raises ValueError where the loss is not finite."""
    epoch = run_epoch_weak if args.weak else run_epoch
    start = time.perf_counter()
    loss, _ = epoch(epoch_no, virtual_views(train_set), model, optimiser, scheduler,
                    args.batch_size)
    speed = len(train_set['joint_2d_1']) / (time.perf_counter() - start)
    if not math.isfinite(loss):
        raise ValueError(f'epoch {epoch_no}: found a loss of {loss}, expected a finite one; a '
                         f'smaller --lr may help')
    _, train_mpjpe = epoch(epoch_no, probe, model, None, None, split='probe')
    val_loss, val_mpjpe = epoch(epoch_no, val_set, model, None, None, split='val')
    rate = float(optimiser.param_groups[0]['lr'])
    return [epoch_no, loss, val_loss, train_mpjpe, val_mpjpe, rate, speed]


def print_row(row: list, epochs: int, n_poses: int) -> None:
    epoch_no, loss, _, train_mpjpe, val_mpjpe, rate, speed = row
    train_mpjpe, val_mpjpe = ('-' if math.isnan(error) else f'{error:.5f}'
                              for error in (train_mpjpe, val_mpjpe))
    left = timedelta(seconds=round((epochs - epoch_no) * n_poses / speed))
    start = '\r' if sys.stdout.isatty() else ''  # over the live line
    print(f'{start}{epoch_no:5}  {loss:.5f}  {train_mpjpe:>11}  {val_mpjpe:>9}  {rate:.2e}  '
          f'{speed:7,.0f}  {left!s:>9}', flush=True)


# ---- what is kept -------------------------------------------------------------------------------

def finish(args: argparse.Namespace, model: LiftModel, history: list) -> None:
    """Writes the weights, and the history as numbers and as a chart."""
    import plots  # only now: with matplotlib the training would start half a second later

    with atomic(args.out) as file:
        torch.save(model.state_dict(), file)
    rows = [['' if math.isnan(value) else value for value in row] for row in history]
    with atomic(args.plots / 'history.csv', 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([COLUMNS, *rows])
    if history:
        plots.draw_history(dict(zip(COLUMNS, zip(*history))), args.plots / 'history.png')


def state_path(args: argparse.Namespace) -> Path:
    return Path(f'{args.out}.state')


def save_state(args: argparse.Namespace, parts: dict, history: list) -> None:
    """Writes all that --resume needs to end where an uninterrupted training ends, bit by bit."""
    options = {name: str(value) if isinstance(value, Path) else value
               for name, value in vars(args).items() if name not in ('out', 'device', 'resume')}
    with atomic(state_path(args)) as file:
        torch.save({'options': options, 'history': history, 'random': torch.get_rng_state(),
                    'random_cuda': torch.cuda.get_rng_state_all(),
                    **{name: part.state_dict() for name, part in parts.items()}}, file)


def restore(parts: dict, state: dict) -> list:
    """Puts model, optimiser, schedule and random numbers where they were; returns the history.

    Raises ValueError where the data is not that of the state.
    """
    mean, begun = parts['model'].mean_3d.cpu(), state['model']['mean_3d']
    if mean.shape != begun.shape or not torch.allclose(mean, begun):
        raise ValueError('--data: found other poses than this training began with, expected the '
                         'same; start anew without --resume')
    rate = parts['optimiser'].param_groups[0]['lr']
    for name, part in parts.items():
        part.load_state_dict(state[name])
    if torch.is_tensor(rate):  # back to the GPU
        group = parts['optimiser'].param_groups[0]
        group['lr'] = rate.fill_(group['lr'])
    torch.set_rng_state(state['random'])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state['random_cuda'])
    return state['history']


# ---- the command line ---------------------------------------------------------------------------

def bounded(kind, least, below=math.inf):
    """A type for argparse: a number of its kind, at least the one and below the other."""
    def number(text):
        if not least <= kind(text) < below:
            raise argparse.ArgumentTypeError(f'found {text}, expected at least {least}' + (
                f' and less than {below}' if below < math.inf else ''))
        return kind(text)
    number.__name__ = kind.__name__  # argparse names it where the text is no number
    return number


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Trains a LiftModel on pickled 2D and 3D joints.',
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = lambda message: parser.exit(2, f'training.py: {message}\n')
    option = parser.add_argument
    option('--data', type=Path, default=argparse.SUPPRESS, metavar='FILE',
           help=f'dictionary with joint_2d_1 and joint_3d, or both views (default: {TRAIN_FILE}; '
                f'with --weak {WEAK_FILE} where there is one)')
    option('--weak', action='store_true', help='learn from two views, without joint_3d')
    option('--epochs', type=bounded(int, 1), default=15, metavar='N', help='passes over the data')
    option('--batch-size', type=bounded(int, 2), default=256, metavar='N', help='poses a step')
    option('--lr', type=bounded(float, 1e-9), default=2e-3, metavar='F',
           help='highest learning rate of the one cycle')
    option('--n-blocks', type=bounded(int, 1), default=2, metavar='N', help='residual blocks')
    option('--hidden-layer', type=bounded(int, 1), default=1024, metavar='N',
           help='width of each layer')
    option('--dropout', type=bounded(float, 0, 1), default=0., metavar='F',
           help='share of nodes left out while learning')
    option('--seed', type=bounded(int, 0, 2 ** 63), default=0, metavar='N',
           help='of weights, order, virtual views and dropout')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    option('--out', type=Path, default='liftModel', metavar='FILE', help='file for the weights')
    option('--plots', type=Path, default='plots', metavar='FOLDER',
           help='folder for charts and history.csv')
    option('--resume', action='store_true', help='go on with the interrupted training of --out')
    return parser


def parse(parser: argparse.ArgumentParser, argv) -> tuple[argparse.Namespace, dict | None]:
    """The options; with --resume the state too, and ValueError for options that differ from it."""
    args = parser.parse_args(argv)
    if 'data' not in args:
        args.data = Path(WEAK_FILE if args.weak and Path(WEAK_FILE).exists() else TRAIN_FILE)
    path = state_path(args)
    if args.out.is_dir():
        raise ValueError(f'--out: found the folder {args.out}, expected a file')
    if not (args.resume and path.exists()):
        if args.resume:
            print(f'nothing to resume: no {path}, so this training starts at the beginning')
        elif path.exists():
            print(f'note: {path} of an unfinished training will be replaced; --resume goes on')
        return args, None
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        parser.set_defaults(**state['options'])
    except Exception as error:  # what is no state can raise nearly anything
        raise ValueError(f'{path}: found no state of a training, expected what --resume needs; '
                         f'start anew without it') from error
    args = parser.parse_args(argv)
    for name, begun in state['options'].items():
        if str(getattr(args, name)) != str(begun):
            raise ValueError(f'--{name.replace("_", "-")}: found {getattr(args, name)}, expected '
                             f'{begun} as this training began; start anew without --resume')
    return args, state


def main(argv=None) -> int:
    parser = make_parser()
    try:
        train(*parse(parser, argv))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
