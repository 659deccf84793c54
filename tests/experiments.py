"""The experiments of the report; run by hand.

    python -m tests.experiments --quick          # all of it, small, in 5 minutes, into quick/
    python -m tests.experiments                  # all of it on synthetic people
    python -m tests.experiments network --data data_train.pkl --test data_test.pkl --every 3
    python -m tests.experiments errors --data data_train.pkl --test data_test.pkl
    python -m tests.experiments weak --data data_train.pkl --test data_test.pkl --every 8

`network` varies blocks and layers, `errors` asks where the error comes from, `weak` compares ways
to learn without 3D. Results are kept in plots/*.csv as they come, and the charts are drawn from
them; a run that was cut goes on where it was. Delete lines to measure them anew.
"""
import argparse
import csv
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

import plots
from data import (JOINTS, SUPERVISED, TWO_VIEWS, find_focal, load, project, sample, settle_views,
                  split_blocks, triangulate)
from metrics import cal_mpjpe
from model import LiftModel
from training import (ROOT, image_error, learn, make_optimiser, split_batches, target_key,
                      virtual_views, weak_loss)

BATCH_SIZE, RATE = 256, 2e-3
FOLDER = Path(plots.__file__).parent


class Table:
    """A CSV file of results, each found by its key; begun where there is none."""

    def __init__(self, path: Path, keys, values):
        self.path, self.n_keys = path, len(keys)
        if not path.exists():
            path.write_text(','.join((*keys, *values)) + '\n')

    def read(self) -> dict[tuple[str, ...], tuple[float, ...]]:
        with open(self.path, newline='') as file:
            _, *lines = csv.reader(file)
        return {tuple(line[:self.n_keys]): tuple(map(float, line[self.n_keys:])) for line in lines}

    def add(self, key, values) -> None:
        with open(self.path, 'a', newline='') as file:
            row = *key, *(f'{value:.6g}' for value in values)
            csv.writer(file, lineterminator='\n').writerow(row)


def tensors(joints: dict) -> dict:
    return {key: torch.from_numpy(array) for key, array in joints.items()}


def fit(model: LiftModel, train_set: dict, epochs: int, measure=None, rate=RATE) -> None:
    """Trains as training.py does; measure(model, views) is the loss of a batch, MPJPE if None."""
    target = train_set[target_key(train_set)]
    train_set = train_set | {'offset': train_set['joint_2d_1']
                             - project(target, train_set['focal_len_1'])}
    model.fit(train_set['joint_2d_1'], target)
    optimiser = make_optimiser(model, rate)
    n_steps = epochs * len(split_batches(target, BATCH_SIZE))
    scheduler = OneCycleLR(optimiser, rate, n_steps, cycle_momentum=False)

    def error(rows):
        batch = {key: array[rows] for key, array in views.items()}
        loss = (measure(model, batch) if measure else
                cal_mpjpe(model(batch['joint_2d_1']), batch['joint_3d']))
        return loss, loss

    for epoch in range(epochs):
        views = virtual_views(train_set)
        learn(epoch, error, len(target), model, optimiser, scheduler, BATCH_SIZE)


# ---- the network --------------------------------------------------------------------------------

@dataclass(frozen=True)
class Variant:
    """A network; as it stands it is the default's."""
    norm: str = 'before ReLU'
    dropout: float = 0.
    layers: int = 2
    skip: str = 'with'
    n_blocks: int = 2
    hidden_layer: int = 1024
    rate: float = RATE


QUESTIONS = {
    'batch norm': [*(Variant(norm=norm) for norm in ('before ReLU', 'after ReLU', 'none')),
                   *(Variant(norm=norm, rate=15 * RATE) for norm in ('before ReLU', 'none'))],
    'dropout': [Variant(dropout=dropout) for dropout in (0., .1, .25, .5)],
    'layers in a block': [Variant(layers=layers) for layers in (2, 1)],
    'skip connection': [Variant(skip=skip, n_blocks=n_blocks) for n_blocks in (2, 4)
                        for skip in ('with', 'without')],
    'blocks': [Variant(n_blocks=n_blocks) for n_blocks in (1, 2, 3, 4)],
    'width': [Variant(hidden_layer=width) for width in (256, 512, 1024)]}


def build(variant: Variant) -> LiftModel:
    """A LiftModel with blocks as in the variant."""
    model = LiftModel(variant.n_blocks, variant.hidden_layer, variant.dropout)
    order = {'before ReLU': (0, 1, 2, 3), 'after ReLU': (0, 2, 1, 3), 'none': (0, 2, 3)}
    for block in model.blocks:
        layers = [block.layers[4 * unit + place] for unit in range(variant.layers)
                  for place in order[variant.norm]]
        block.layers = nn.Sequential(*layers)
    if variant.skip == 'without':
        model.blocks = nn.Sequential(*(block.layers for block in model.blocks))
    return model


def network(args: argparse.Namespace) -> None:
    """Trains each variant from each seed; validation and test error, seconds and parameters."""
    table = Table(args.plots / 'network.csv', [field.name for field in fields(Variant)]
                  + ['data', 'seed'], ('val', 'test', 'seconds', 'parameters'))
    train_set, val_set, test_set = supervised_sets(args)
    variants = dict.fromkeys(variant for group in QUESTIONS.values() for variant in group)
    for seed in args.seeds:
        for variant in variants:
            key = *map(str, astuple(variant)), args.name, str(seed)
            if key in table.read():
                continue
            torch.manual_seed(seed)
            model, start = build(variant), time.perf_counter()
            fit(model, train_set, args.epochs, rate=variant.rate)
            seconds = time.perf_counter() - start
            val, test = (cal_mpjpe(model.lift(part['joint_2d_1']), part['joint_3d']).item()
                         for part in (val_set, test_set))
            n_parameters = sum(weights.numel() for weights in model.parameters())
            table.add(key, (val, test, seconds, n_parameters))
            print(f'seed {seed}  {", ".join(key[:-2])}: test {test:.5f}, {seconds:.0f} s',
                  flush=True)
    found = {}
    for (*variant, data, _), values in table.read().items():
        found.setdefault((tuple(variant), data), []).append(values)
    charts = {question: [(value_of(question, variant),
                          {data: np.array(values) for (key, data), values in found.items()
                           if key == tuple(map(str, astuple(variant)))}) for variant in group]
              for question, group in QUESTIONS.items()}
    plots.draw_network(charts, args.plots / 'network.png')


def value_of(question: str, variant: Variant) -> str:
    """What the variant says to a question, as its label."""
    fast = ',\nrate x 15' if variant.rate > RATE else ''
    return str({'batch norm': variant.norm.replace(' ', '\n') + fast,
                'dropout': f'{variant.dropout:g}', 'layers in a block': variant.layers,
                'skip connection': f'{variant.skip},\n{variant.n_blocks} blocks',
                'blocks': variant.n_blocks, 'width': variant.hidden_layer}[question])


def supervised_sets(args: argparse.Namespace) -> tuple[dict, dict, dict]:
    """Training, validation and test poses as tensors, with the focal lengths of view 1."""
    joints, test = read(args, SUPERVISED)
    joints['focal_len_1'] = find_focal(joints)
    joints = {key: joints[key] for key in (*SUPERVISED, 'focal_len_1')}
    train_set, val_set = split_blocks(joints)
    return tensors(train_set), tensors(val_set), tensors({key: test[key] for key in SUPERVISED})


# ---- where the error comes from -----------------------------------------------------------------

def errors(args: argparse.Namespace) -> None:
    """Errors of a model along the ray and across it: by joint, by view, by how unusual a pose is.

    The joints must be those of JOINTS.
    """
    table = Table(args.plots / 'errors.csv', ('data', 'chart', 'x'),
                  ('error', 'along', 'across', 'low', 'high'))
    if not any(data == args.name for data, *_ in table.read()):
        train_set, _, test_set = supervised_sets(args)
        torch.manual_seed(args.seeds[0])
        model = LiftModel(dropout=0)
        fit(model, train_set, args.epochs)
        lifted, truth = model.lift(test_set['joint_2d_1']).numpy(), test_set['joint_3d'].numpy()
        parts = split_error(lifted, truth)  # (3, N, J)
        for joint, name in enumerate(JOINTS):
            table.add((args.name, 'joint', name), summary(parts[:, :, joint]))
        parts = parts.mean(axis=2)
        unusual = distance_to_nearest(truth, train_set['joint_3d'].numpy())
        for chart, values, edges in (
                ('view', np.abs(facing(truth)), np.linspace(0, 180, 13)),
                ('unusual', unusual, np.quantile(unusual, np.linspace(0, 1, 11)))):
            for low, high in zip(edges, edges[1:]):
                inside = (low <= values) & (values <= high)
                table.add((args.name, chart, f'{np.median(values[inside]):.4g}'),
                          summary(parts[:, inside]))
    found = {}
    for (data, chart, x), values in table.read().items():
        if data == args.name:
            found.setdefault(chart, {})[x] = values
    plots.draw_errors(found, args.plots / 'errors.png')


def split_error(lifted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance of joints (N, J, 3) from the truth, its part along the ray and its part across it,
    together (3, N, J)."""
    ray = truth / np.linalg.norm(truth, axis=-1, keepdims=True)
    along = np.vecdot(lifted - truth, ray)
    across = np.linalg.norm(lifted - truth - along[..., None] * ray, axis=-1)
    return np.stack([np.linalg.norm(lifted - truth, axis=-1), np.abs(along), across])


def summary(parts: np.ndarray) -> tuple:
    """Means of error, along and across (3, N), and the quartiles of the error."""
    return (*parts.mean(axis=1), *np.quantile(parts[0], (.25, .75)))


def facing(joint_3d: np.ndarray) -> np.ndarray:
    """Angle (N,) in degrees about the vertical, by the shoulders: 0 to the camera, 90 right."""
    left = joint_3d[:, JOINTS.index('LShoulder')] - joint_3d[:, JOINTS.index('RShoulder')]
    return np.degrees(np.arctan2(-left[:, 2], left[:, 0]))


def distance_to_nearest(joint_3d: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance (N,) of poses (N, J, 3) from the nearest of others, root mean square over joints.

    All are turned about the vertical to face the same way, and of one size.
    """
    def normalised(joints):
        angle = torch.from_numpy(np.radians(facing(joints)))
        sin, cos, none = angle.sin(), angle.cos(), 0 * angle
        turn = torch.stack([cos, none, -sin, none, none + 1, none, sin, none, cos], dim=-1)
        pose = (torch.from_numpy(joints) - ROOT) @ turn.view(-1, 3, 3).mT
        size = pose.square().sum(dim=2).mean(dim=1).sqrt()
        return (pose / size[:, None, None]).flatten(1) / len(JOINTS) ** .5

    others = normalised(others)
    return torch.cat([torch.cdist(part, others).amin(dim=1)
                      for part in normalised(joint_3d).split(500)]).numpy()


# ---- without 3D ---------------------------------------------------------------------------------

NOISES = (0., .002, .005, .01)
WAYS = ('classic, two views at test time', 'supervised', 'triangulation', 'reprojection', 'both',
        'triangulation, agreement', 'reprojection, agreement', 'both, agreement')


def weak(args: argparse.Namespace) -> None:
    """Ways to learn from two views, with as many lifts, under noise in training and test."""
    table = Table(args.plots / 'weak.csv', ('way', 'noise', 'data', 'seed'), ('mpjpe',))
    seed = args.seeds[0]
    joints, test = read(args, (*TWO_VIEWS, 'joint_3d'))
    for noise in NOISES:
        train_set, _ = settle_views(noisy(joints, noise, seed=1))
        test_set = noisy(test, noise, seed=2)
        for way in WAYS:
            key = way, f'{noise:g}', args.name, str(seed)
            if key not in table.read():
                lifted = (triangulate(test_set) if 'classic' in way else
                          learnt(way, train_set, args, seed).lift(
                              torch.from_numpy(test_set['joint_2d_1'])))
                table.add(key, [cal_mpjpe(lifted, test_set['joint_3d'])])
                print(f'noise {noise:<5}  {way:32}  MPJPE {table.read()[key][0]:.5f}', flush=True)
    found = {}
    for (way, noise, data, _), (mpjpe,) in table.read().items():
        if data == args.name:
            found.setdefault(way, {})[float(noise)] = mpjpe
    plots.draw_weak(found, args.plots / 'weak.png')


def noisy(joints: dict, noise: float, seed: int) -> dict:
    """Both views with normal noise on each coordinate."""
    rng = np.random.default_rng(seed)
    return joints | {key: (joints[key] + rng.normal(0, noise, joints[key].shape)).astype(np.float32)
                     for key in ('joint_2d_1', 'joint_2d_2')}


def learnt(way: str, joints: dict, args: argparse.Namespace, seed: int) -> LiftModel:
    """A LiftModel trained on a dictionary of `settle_views` in one of WAYS.

    Who lifts a second view does so of every other sample, and has two thirds of the epochs.
    """
    other = 'triangulated' if way == 'supervised' else 'joint_3d'
    torch.manual_seed(seed)
    model = LiftModel(dropout=0)
    fit(model, tensors({key: array for key, array in joints.items() if key != other}),
        args.epochs if 'agreement' in way else args.epochs * 3 // 2,
        None if way == 'supervised' else lambda model, views: loss_of(way, model, views))
    return model


def loss_of(way: str, model: LiftModel, views: dict) -> Tensor:
    """The loss of one of WAYS without 3D; that of training.py is 'reprojection, agreement'."""
    def error(pose, views):
        loss = image_error(pose, views) if way.startswith(('reprojection', 'both')) else 0
        if way.startswith(('triangulation', 'both')):
            loss = loss + cal_mpjpe(pose + ROOT, views['triangulated'])
        return loss

    if 'agreement' in way:
        return weak_loss(model, views, error)[0]
    return error((model(views['virtual_2d']) - ROOT) @ views['turn'], views)


# ---- the command line ---------------------------------------------------------------------------

def read(args: argparse.Namespace, need) -> tuple[dict, dict]:
    """Every n-th training sample and all test samples, of the files or of synthetic people."""
    joints = load(args.data, need) if args.data else sample(args.poses, seed=0)
    test = load(args.test, need) if args.test else sample(args.poses // 4, seed=1)
    return {key: array[::args.every] for key, array in joints.items()}, test


def main() -> None:
    experiments = {'network': network, 'errors': errors, 'weak': weak}
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('what', nargs='*', default=list(experiments), metavar='|'.join(experiments),
                        help='all of them without')
    parser.add_argument('--data', help='poses to train on; synthetic people without')
    parser.add_argument('--test', help='poses of others, to score')
    parser.add_argument('--every', type=int, default=1, help='train on every n-th sample')
    parser.add_argument('--poses', type=int, default=10_000, help='of synthetic people')
    parser.add_argument('--epochs', type=int, default=8)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2],
                        help='of the network; the first alone for the others')
    parser.add_argument('--plots', type=Path, default=FOLDER, help='folder for .csv and .png')
    parser.add_argument('--quick', action='store_true',
                        help='the same as --poses 4000 --epochs 2 --seeds 0 --plots quick')
    parser.error = lambda message: parser.exit(2, f'experiments: {message}\n')
    args = parser.parse_args()
    if bool(args.data) != bool(args.test):
        parser.error('found only one of --data and --test, expected both or neither')
    if not set(args.what) <= set(experiments):
        parser.error(f'found {" ".join(args.what)}, expected some of {" ".join(experiments)}')
    if args.quick:
        args.poses, args.epochs, args.seeds, args.plots = 4000, 2, [0], Path('quick')
    args.plots.mkdir(exist_ok=True)
    args.name = Path(args.data).stem if args.data else 'synthetic'
    args.name += f' / {args.every}' if args.every > 1 else ''
    try:
        for what in args.what:
            experiments[what](args)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
