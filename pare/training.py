"""Learns to regress the SMPL body from an image.

    python -m pare.training                      # renders people of a stand-in body and learns them
    python -m pare.training --ladder             # from ResNet and MLP to part attention, in steps
    python -m pare.training --size full --body SMPL_NEUTRAL.pkl --init resnet50.pth \\
        --images /data --train 3dpw_train.npz:0.6 mpii_train.npz:0.4 --epochs 120
    torchrun --nproc-per-node 8 -m pare.training --size full ...
"""
import argparse
import csv
import math
import os
import sys
import time
from copy import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import ConcatDataset, DataLoader, Subset

from metrics import cal_mpjpe, cal_pa_mpjpe
from pare.body import KEYPOINTS, Skeleton, project
from pare.data import People, render_set
from pare.files import load_body
from pare.formats import read_weights
from pare.model import build
from pare.standin import make_body

TRAIN_FILE, TEST_FILE = Path('people_train.npz'), Path('people_test.npz')
N_TRAIN, N_TEST = 6000, 500
DEFAULTS = {'small': {'resolution': 64, 'epochs': 7, 'lr': 1e-3, 'batch_size': 32},
            'full': {'resolution': 224, 'epochs': 120, 'lr': 3e-4, 'batch_size': 64}}
WARM_UP = 100                        # steps
WEIGHTS = {'keypoints': 5., 'points_3d': 5., 'pose': 1., 'betas': .001, 'camera': 1., 'parts': 1.}
BACKGROUND = .2                      # weight of pixels without a part
HIPS = [KEYPOINTS.index('RHip'), KEYPOINTS.index('LHip')]
COLUMNS = ('epoch', 'loss', *WEIGHTS, 'val_mpjpe', 'val_pa_mpjpe', 'rate', 'images_per_s')


# ---- the loss -----------------------------------------------------------------------------------

def losses(found: dict, batch: dict, skeleton: Skeleton, part_weight: float = 1.) -> dict:
    """The terms of the loss, weighted; each is a mean over all samples, zero for those that lack
    what it compares, so that the mean of the gradients of processes is that of one.

    After SPIN and PARE: points of both kinds weighted by confidence, 3D about the middle of the
    hips in metres; rotations as matrices; parts by cross-entropy; a prior keeps the scale positive.
    """
    has_smpl = batch['has_smpl']
    points, _ = skeleton(found['betas'], found['rotations'])
    with torch.no_grad():
        truth, _ = skeleton(batch['betas'], batch['rotations'])
        given = batch['points_3d']
        truth = torch.where(has_smpl[:, None, None] > 0, truth, given[..., :3])
        sure = torch.where(has_smpl[:, None] > 0, skeleton.known.float(), given[..., 3])
        truth = truth - truth[:, HIPS].mean(dim=1, keepdim=True)
    seen = batch['keypoints'][..., 2] * skeleton.known
    offset_2d = project(points, found['camera']) - batch['keypoints'][..., :2]
    offset_3d = points - points[:, HIPS].mean(dim=1, keepdim=True) - truth
    terms = {
        'keypoints': (seen[..., None] * offset_2d.square()).mean(),
        'points_3d': (sure[..., None] * offset_3d.square()).mean(),
        'pose': (has_smpl * (found['rotations'] - batch['rotations']).square().mean((1, 2, 3))
                 ).mean(),
        'betas': (has_smpl * (found['betas'] - batch['betas']).square().mean(dim=1)).mean(),
        'camera': (-20 * found['camera'][:, 0]).exp().mean(),
        'parts': part_loss(found['parts'], batch['labels']) if part_weight and 'parts' in found
        else torch.zeros((), device=has_smpl.device)}
    weights = WEIGHTS | {'parts': WEIGHTS['parts'] * part_weight}
    return {key: weights[key] * term for key, term in terms.items()}


def part_loss(parts: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of maps (B, 25, H, W) at labels (B, H, W), where they are known."""
    weight = torch.ones(parts.shape[1], device=parts.device)
    weight[0] = BACKGROUND
    loss = cross_entropy(parts, labels, weight, ignore_index=-1, reduction='none')
    total = weight[labels.clamp(min=0)] * (labels >= 0)
    return (loss.sum(dim=(1, 2)) / total.sum(dim=(1, 2)).clamp(min=1)).mean()


# ---- batches ------------------------------------------------------------------------------------

class Mixture:
    """Batches of several sets in given shares; order and augmentation follow from seed and epoch.

    Each of n_ranks processes gets every n_ranks-th sample of the same order.
    """

    def __init__(self, sets: list[People], shares, batch_size: int, seed: int, workers: int = 0,
                 rank: int = 0, n_ranks: int = 1):
        self.sets, self.batch_size, self.seed, self.workers = sets, batch_size, seed, workers
        self.rank, self.n_ranks = rank, n_ranks
        self.data, shares = ConcatDataset(sets), np.array(shares) / sum(shares)
        self.counts = np.floor(shares * len(self.data)).astype(int)
        self.n_batches = int(self.counts.sum()) // (batch_size * n_ranks)
        if not self.n_batches:
            raise ValueError(f'found {self.counts.sum()} samples, expected at least a batch of '
                             f'{batch_size * n_ranks}')

    def epoch(self, number: int) -> DataLoader:
        """The batches of an epoch."""
        rng = np.random.default_rng((self.seed, number))
        rows, start = [], 0
        for part, count in zip(self.sets, self.counts):
            whole, rest = divmod(count, len(part))
            rows.append(start + np.concatenate([np.tile(np.arange(len(part)), whole),
                                                rng.permutation(len(part))[:rest]]))
            start += len(part)
            getattr(part, 'dataset', part).epoch = number
        order = rng.permutation(np.concatenate(rows))
        order = order[:self.n_batches * self.batch_size * self.n_ranks]
        batches = order.reshape(self.n_batches, -1)[:, self.rank::self.n_ranks].tolist()
        return DataLoader(self.data, batch_sampler=batches, num_workers=self.workers)


def to(device: torch.device, batch: dict) -> dict:
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


@torch.no_grad()
def evaluate(model: nn.Module, samples, skeleton: Skeleton, device: torch.device) -> dict:
    """Joints of H36M or, without them, keypoints: predicted and true (N, K, 3), from the pelvis."""
    model.eval()
    both = {'found': [], 'true': []}
    for batch in DataLoader(samples, 64):
        batch = to(device, batch)
        for key, part in (('found', model(batch['image'])), ('true', batch)):
            keypoints, joints = skeleton(part['betas'], part['rotations'])
            points = joints if joints.shape[1] else keypoints
            centre = points[:, :1] if joints.shape[1] else points[:, HIPS].mean(1, keepdim=True)
            both[key].append((points - centre).cpu())
    return {key: torch.cat(parts) for key, parts in both.items()}


# ---- the training -------------------------------------------------------------------------------

def rate_at(step: int, n_steps: int) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine to zero."""
    warm_up = min(WARM_UP, n_steps // 10 + 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return .5 * (1 + math.cos(math.pi * (step - warm_up) / max(n_steps - warm_up, 1)))


def train(args: argparse.Namespace, sets: list, val_set, arrays: dict) -> list:
    """Trains a regressor, from the start or from the state of --resume; returns the history.

    Writes weights, history and charts after each epoch. Raises ValueError where the loss is not
    finite; the weights of the epoch before are then in --out.
    """
    rank, n_ranks = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    device = pick_device(args.device)
    torch.manual_seed(args.seed)
    model = build(args.model, args.size, args.shared)
    model.to(device, memory_format=torch.channels_last)  # convolutions are faster so
    skeleton = Skeleton(arrays).to(device)
    if args.init:
        load_backbone(model, args.init)
    batches = Mixture(sets, args.shares, args.batch_size // n_ranks, args.seed, args.workers, rank,
                      n_ranks)
    for part in sets:
        getattr(part, 'dataset', part).amodal = args.amodal
    n_steps = args.epochs * batches.n_batches
    optimiser = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, n_steps))
    average = (AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(.998), use_buffers=True)
               if args.average else None)
    parts = {'model': model, 'optimiser': optimiser, 'scheduler': scheduler}
    parts |= {'average': average} if average else {}
    history = restore(args, parts) if args.resume else []
    learner = model
    if n_ranks > 1:
        if device.type == 'cuda':
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        learner = DistributedDataParallel(model)
    part_epochs = round(.6 * args.epochs) if args.part_epochs is None else args.part_epochs
    for epoch in range(len(history) + 1, args.epochs + 1):
        start = time.perf_counter()
        terms = run_epoch(epoch, batches.epoch(epoch), learner, optimiser, scheduler, skeleton,
                          float(epoch <= part_epochs), average)
        speed = batches.n_batches * args.batch_size / (time.perf_counter() - start)
        if average and epoch == args.epochs:
            update_bn((batch['image'] for batch in batches.epoch(epoch)), average, device)
        best = average.module if average else model
        points = evaluate(best, val_set, skeleton, device)
        history.append([epoch, sum(terms.values()), *terms.values(),
                        1000 * cal_mpjpe(points['found'], points['true']).item(),
                        1000 * cal_pa_mpjpe(points['found'], points['true']).item(),
                        optimiser.param_groups[0]['lr'], speed])
        if rank == 0:
            print('  '.join(f'{value:.4g}' for value in history[-1]), flush=True)
            keep(args, parts, best, history)
    return history


def run_epoch(epoch, batches, model, optimiser, scheduler, skeleton, part_weight,
              average=None) -> dict:
    """One pass over the batches; means of the weighted terms of the loss. Raises ValueError where
    the loss is not finite."""
    model.train()
    device = skeleton.rows.device
    totals, n_batches = 0, 0
    for batch in batches:
        batch = to(device, batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
            found = model(batch['image'])
        found = {key: value.float() for key, value in found.items()}
        terms = losses(found, batch, skeleton, part_weight)
        loss = sum(terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        scheduler.step()
        if average is not None:
            average.update_parameters(getattr(model, 'module', model))
        totals = totals + torch.stack([term.detach() for term in terms.values()])
        n_batches += 1
        if sys.stdout.isatty():
            print(f'\r{epoch:4}  batch {n_batches} of {len(batches)}  loss {loss.item():.4f} ',
                  end='', flush=True)
    means = (totals / n_batches).tolist()
    if not math.isfinite(sum(means)):  # asked once, since each answer waits for the GPU
        raise ValueError(f'epoch {epoch}: found a loss of {sum(means)}, expected a finite one; a '
                         f'smaller --lr may help')
    return dict(zip(WEIGHTS, means))


# ---- what is kept -------------------------------------------------------------------------------

def keep(args: argparse.Namespace, parts: dict, model: nn.Module, history: list) -> None:
    """Writes the weights with what they are built from, what --resume needs, and the charts."""
    from pare import plots  # only now: with matplotlib the training would start later

    options = {'kind': args.model, 'size': args.size, 'shared': args.shared,
               'resolution': args.resolution}
    args.plots.mkdir(parents=True, exist_ok=True)
    save(args.out, {'options': options, 'weights': model.state_dict()})
    save(state_path(args), {'options': options, 'history': history, 'random': torch.get_rng_state(),
                            'asked': asked(args),
                            **{name: part.state_dict() for name, part in parts.items()}})
    temporary = args.plots / 'history.csv.tmp'
    with open(temporary, 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([COLUMNS, *history])
    temporary.replace(args.plots / 'history.csv')
    plots.draw_history(dict(zip(COLUMNS, zip(*history))), args.plots / 'history.png')


def save(path: Path, values: dict) -> None:
    """Tensors, numbers and names, whole or not at all."""
    temporary = Path(f'{path}.tmp')
    torch.save(values, temporary)
    temporary.replace(path)


def state_path(args: argparse.Namespace) -> Path:
    return Path(f'{args.out}.state')


def asked(args: argparse.Namespace) -> dict[str, str]:
    """The options that decide what is learnt."""
    names = ('train', 'fits', 'body', 'init', 'model', 'size', 'shared', 'amodal', 'part_epochs',
             'average', 'epochs', 'batch_size', 'lr', 'resolution', 'seed')
    return {name: str(getattr(args, name)) for name in names}


def restore(args: argparse.Namespace, parts: dict) -> list:
    """Puts all parts where an interrupted training left them; returns its history. Raises
    ValueError for options that differ."""
    path = state_path(args)
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        begun = state['asked']
    except Exception as error:
        raise ValueError(f'{path}: found no state of a training ({type(error).__name__}), expected '
                         f'what --resume needs') from error
    for name, value in asked(args).items():
        if value != begun[name]:
            raise ValueError(f'--{name.replace("_", "-")}: found {value}, expected {begun[name]} '
                             f'as this training began')
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state['random'])
    return state['history']


def load_backbone(model: nn.Module, path: Path) -> None:
    """Puts weights in torchvision's names into the backbone and says what was found."""
    state = read_weights(path)
    try:
        missing, unused = model.backbone.load(state)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    print(f'{path}: {len(missing)} weights of the backbone missing {missing[:3]}, {len(unused)} '
          f'not used {unused[:3]}')


def pick_device(name: str) -> torch.device:
    if name == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: found no CUDA device, expected one; --device cpu works')
    if name == 'cpu' or not torch.cuda.is_available():
        return torch.device('cpu')
    return torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)))


# ---- the ladder ---------------------------------------------------------------------------------

LADDER = {'ResNet and MLP': {'model': 'mlp'},
          'the same in the time of attention': {'model': 'mlp', 'longer': 1.5},
          '+ branches and attention': {'model': 'pare', 'shared': True, 'part_epochs': 0},
          '+ 24 MLPs': {'model': 'pare', 'part_epochs': 0},
          '+ part loss': {'model': 'pare'},
          'part loss of hidden parts too': {'model': 'pare', 'amodal': True},
          '+ twice as long and averaged': {'model': 'pare', 'longer': 2, 'average': True}}
HIDDEN, GROUPS = .3, 6  # share of the test set that is the most occluded; groups by what is visible
RUNG = ('rung', 'seed', 'seconds', 'samples', 'mpjpe', 'pa_mpjpe', 'gain', 'gain_error', 'occluded',
        'occluded_gain', *(f'visible_{group}' for group in range(GROUPS)))


def climb(args: argparse.Namespace, sets: list, val_set, test_set, arrays: dict) -> None:
    """Trains each rung from each seed and scores it on the test set; a rung that stands in
    ladder.csv is not trained again. The course of each goes to ladder_history.csv."""
    from pare import plots

    args.plots.mkdir(parents=True, exist_ok=True)
    table, courses = args.plots / 'ladder.csv', args.plots / 'ladder_history.csv'
    done = {(row['rung'], row['seed']) for row in read_rows(table)}
    for seed in args.seeds:
        for rung, options in LADDER.items():
            if (rung, str(seed)) not in done:
                row, history = one_rung(args, rung, options, seed, sets, val_set, test_set, arrays)
                add_rows(courses, ('rung', 'seed', *COLUMNS),
                         [(rung, seed, *(f'{value:.6g}' for value in line)) for line in history])
                add_rows(table, RUNG, [row])
                print('  '.join(map(str, row)), flush=True)
    plots.draw_ladder(read_rows(table), args.plots / 'ladder.png')
    plots.draw_courses(read_rows(courses), args.plots / 'ladder_history.png')
    shares = by_visible(test_set.set['visible'], test_set.set['visible'])
    plots.draw_visible({rung: (shares, np.array(
        [[float(row[name]) for name in RUNG[-GROUPS:]] for row in read_rows(table)
         if row['rung'] == rung])) for rung in ('ResNet and MLP', '+ part loss')},
        'standard deviation over seeds', args.plots / 'ladder_visible.png')


def read_rows(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def add_rows(path: Path, columns, rows: list) -> None:
    new = not path.exists()
    with open(path, 'a', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([columns, *rows] if new else rows)


def by_visible(visible: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means (GROUPS,) of values (N,) in groups alike in size, from the least visible on."""
    return np.array([part.mean() for part in np.array_split(values[visible.argsort()], GROUPS)])


def one_rung(args, rung, options, seed, sets, val_set, test_set, arrays) -> tuple[tuple, list]:
    """Trains and measures one rung: RUNG, in mm, and its history. Gains are over the first rung of
    the same seed, image by image, with their standard error."""
    own = argparse.Namespace(**vars(args) | {'seed': seed, 'out': Path(f'{args.out}.rung')})
    for name, value in options.items():
        setattr(own, name, value)
    own.epochs, own.resume = round(args.epochs * options.get('longer', 1)), False
    start = time.perf_counter()
    history = train(own, sets, val_set, arrays)
    seconds = time.perf_counter() - start
    mpjpe, pa_mpjpe = test_errors(own.out, test_set, arrays, pick_device(args.device))
    first = Path(f'{args.out}.{seed}.npy')  # errors of the first rung
    if rung == next(iter(LADDER)):
        np.save(first, mpjpe)
    gain, visible = np.load(first) - mpjpe, test_set.set['visible']
    hidden = visible.argsort()[:round(HIDDEN * len(test_set))]
    values = (mpjpe.mean(), pa_mpjpe.mean(), gain.mean(), gain.std() / len(gain) ** .5,
              mpjpe[hidden].mean(), gain[hidden].mean(), *by_visible(visible, mpjpe))
    return (rung, seed, round(seconds), own.epochs * sum(map(len, sets)),
            *(f'{value:.2f}' for value in values)), history


def test_errors(path: Path, test_set, arrays: dict, device: torch.device) -> tuple:
    """MPJPE and PA-MPJPE, arrays (N,) in mm, of saved weights."""
    from pare.eval import load_model

    points = evaluate(load_model(path, device)[0], test_set, Skeleton(arrays).to(device), device)
    return tuple(1000 * metric(points['found'], points['true'], avg=False).numpy()
                 for metric in (cal_mpjpe, cal_pa_mpjpe))


# ---- the command line ---------------------------------------------------------------------------

def prepare(args: argparse.Namespace) -> tuple[list, object, People, dict]:
    """Sets to train on, to validate and to test, and the body. What is missing is rendered."""
    arrays = load_body(args.body) if args.body else make_body()
    if not args.train and int(os.environ.get('RANK', 0)) == 0:
        for path, n, seed in ((TRAIN_FILE, N_TRAIN, 0), (TEST_FILE, N_TEST, 1)):
            if not path.exists():
                render_set(path, n, args.resolution, seed)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # until the first process has rendered
    sets, args.shares = [], []
    for name in args.train or [str(TRAIN_FILE)]:
        path, _, share = name.partition(':')
        sets.append(People(path, arrays, args.images, args.resolution, args.seed,
                           args.fits if not sets else None))
        leave_out_unreadable(sets[-1], args.skip_unreadable)
        args.shares.append(float(share) if share else len(sets[-1]))
    if args.val:
        val_set = People(args.val, arrays, args.images, args.resolution)
    elif len(sets[0]) < 2:
        raise ValueError(f'{sets[0].path}: found 1 sample, expected more, to train on and to '
                         f'validate; --val names others to validate')
    else:  # the end of the first set
        plain = copy(sets[0])
        plain.seed = None  # not augmented
        held_out = min(round(.95 * len(plain)), len(plain) - 1)
        val_set = Subset(plain, range(held_out, len(plain)))
        sets[0] = Subset(sets[0], range(held_out))
    test_set = val_set if args.train else People(TEST_FILE, arrays, args.images, args.resolution)
    return sets, val_set, test_set, arrays


def leave_out_unreadable(people: People, skip: bool) -> None:
    """Raises ValueError where photographs cannot be read, or with `skip` leaves them out."""
    bad = people.unreadable()
    if not bad.any():
        return
    first = people.images / str(people.set['imgname'][bad.argmax()])
    found = f'{people.path}: found {bad.sum()} of {len(bad)} images unreadable, the first {first}'
    if not skip or bad.all():
        raise ValueError(f'{found}, expected all; --skip-unreadable leaves them out')
    print(f'{found}; they are left out')
    people.keep(~bad)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Trains a regressor of the SMPL body.',
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = lambda message: parser.exit(2, f'pare.training: {message}\n')
    option = parser.add_argument
    option('--train', nargs='+', metavar='FILE[:SHARE]',
           help=f'sets, .npz; without, people are rendered into {TRAIN_FILE}')
    option('--val', type=Path, metavar='FILE', help='else the last 5 %% of the first set')
    option('--images', type=Path, default=Path(), metavar='FOLDER', help='where imgname begins')
    option('--fits', type=Path, metavar='FILE', help='pose and shape of the first set')
    option('--skip-unreadable', action='store_true', help='leave out images that cannot be read')
    option('--body', type=Path, metavar='FILE', help='SMPL model; else a stand-in')
    option('--init', type=Path, metavar='FILE', help='weights of the backbone')
    option('--model', choices=('mlp', 'pare'), default='pare', help='the regressor')
    option('--size', choices=tuple(DEFAULTS), default='small', help='ResNet-18 or ResNet-50')
    option('--shared', action='store_true', help='one MLP for all parts')
    option('--amodal', action='store_true', help='the part loss is of hidden parts too')
    option('--part-epochs', type=int, metavar='N', help='with the part loss; else 60 %% of them')
    option('--average', action='store_true', help='keep averaged weights')
    for name, kind, text in (('epochs', int, 'passes'), ('batch-size', int, 'images a step'),
                             ('lr', float, 'learning rate'), ('resolution', int, 'pixels')):
        option(f'--{name}', type=kind, metavar='N', help=f'{text}; else as --size wants')
    option('--seed', type=int, default=0, metavar='N', help='of weights, order and augmentation')
    option('--workers', type=int, default=0, metavar='N', help='processes that read images')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    option('--out', type=Path, default='pareModel', metavar='FILE', help='file for the weights')
    option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='for charts')
    option('--resume', action='store_true', help='go on with the training of --out')
    option('--ladder', action='store_true', help='train all rungs and compare them')
    option('--seeds', type=int, nargs='+', default=[0, 1, 2], metavar='N', help='of the ladder')
    return parser


def main(argv=None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    for name, value in DEFAULTS[args.size].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    n_ranks = int(os.environ.get('WORLD_SIZE', 1))
    if args.batch_size % n_ranks:
        parser.error(f'--batch-size: found {args.batch_size}, expected a multiple of the {n_ranks} '
                     f'processes')
    if n_ranks > 1:
        torch.distributed.init_process_group('nccl' if torch.cuda.is_available() else 'gloo')
    try:
        sets, val_set, test_set, arrays = prepare(args)
        if args.ladder:
            climb(args, sets, val_set, test_set, arrays)
        else:
            print('  '.join(COLUMNS))
            train(args, sets, val_set, arrays)
            print(f'wrote {args.out}, and charts to {args.plots}')
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f'\ninterrupted; to go on: python -m pare.training --resume --out {args.out}')
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
