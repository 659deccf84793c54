"""From a plain ResNet to part attention, a step at a time, on rendered people.

    python -m pare.ladder                        # three seeds; goes on where it was stopped
    python -m pare.ladder --people 1000 --epochs 2 --seeds 0 --folder /tmp/ladder

Each rung is trained on the same people and scored on the test set. Results go to ladder.csv, one
row each, and validation after each epoch to ladder_history.csv.
"""
from pare.command import command, end_at_once

if __name__ == '__main__':  # while torch is imported
    end_at_once()

import argparse
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from metrics import cal_mpjpe, cal_pa_mpjpe
from model import Block, pick_device, pick_precision
from pare import plots
from pare.batches import rendered_mean, rendered_val
from pare.body import Skeleton, fit_camera, project
from pare.eval import N_TEST, TEST_SEED
from pare.metrics import centred, evaluate, on_part, to, true_joints, validate
from pare.model import build
from pare.options import DEFAULTS
from pare.people import PASSES, Rendered, look_at, rendered_samples, sample_bodies
from pare.standin import make_body
from pare.training import WEIGHTS, fit
from plots import Table
from training import Parser, bounded, status

EPOCHS, N_PEOPLE = 4, 2500        # of each rung, people an epoch: 30,000 images
HIDDEN = .3                       # share of the test set that is the most hidden
MEAN, FLOOR = 'mean pose', 'exact 2D keypoints'
N_EXACT, EXACT_PASSES = 100_000, 8  # people from whose exact keypoints the floor is learnt
COLUMNS = ('samples', 'seconds', 'mpjpe', 'pa_mpjpe', 'learnt', 'hidden', 'pixels', 'seen_joints',
           'hidden_joints')


@dataclass(frozen=True)
class Rung:
    """What is trained, `times` as many epochs as the others; `weights` are of terms of the loss
    that differ from the default's, `changes` of the size of the network, as in `build`."""
    kind: str = 'pare'
    placed: bool = True
    shared: bool = False
    times: float = 1.
    squared: bool = False
    muon: bool = True
    weights: dict = field(default_factory=dict)
    changes: dict = field(default_factory=dict)


PLAIN = {'places': 0., 'skeletons': 0.}
BLIND = PLAIN | {'parts': 0.}
DEFAULT = '+ bodies without images (default)'
RUNGS = {'ResNet and MLP': Rung('mlp', weights=BLIND),
         'ResNet and MLP, twice as long': Rung('mlp', weights=BLIND, times=2.),
         '+ branches and attention': Rung(placed=False, shared=True, weights=BLIND),
         '+ 24 MLPs': Rung(placed=False, weights=BLIND),
         '+ part loss': Rung(placed=False, weights=PLAIN),
         '+ supervised places, seen by all': Rung(weights={'skeletons': 0.}),
         DEFAULT: Rung(),
         '+ twice as long': Rung(times=2.)}
SQUARES = {'keypoints': 5., 'points_3d': 5., 'places': 5.}  # about as large as distances
ABLATION = {'without skip connections': Rung(changes={'skips': False}),
            'with maps half as wide': Rung(changes={'fine': False}),
            'with squares for distances': Rung(squared=True, weights=SQUARES),
            'with Adam alone': Rung(muon=False)}


def climb(args: argparse.Namespace) -> None:
    """Trains and scores what is not in the table yet, then draws it."""
    args.folder.mkdir(parents=True, exist_ok=True)
    table = Table(args.folder / 'ladder.csv', ('rung', 'seed'), COLUMNS)
    courses = Table(args.folder / 'ladder_history.csv', ('rung', 'seed', 'epoch'),
                    ('samples', 'loss', 'val_mpjpe'))
    device, skeleton = pick_device(args.device), Skeleton(make_body())
    samples, visible = rendered_samples(N_TEST, DEFAULTS['small']['resolution'], TEST_SEED)
    test = Test(list(DataLoader(samples, 100)), visible, skeleton.to(device), device)
    val_batches = rendered_val(DEFAULTS['small']['resolution'])
    for seed in args.seeds:
        if (MEAN, seed) not in table:
            add(table, MEAN, seed, 0, 0., test.score(constant(seed, test)))
        if (FLOOR, seed) not in table:
            start = time.perf_counter()
            joints = from_exact_keypoints(seed, test)
            add(table, FLOOR, seed, N_EXACT * EXACT_PASSES, time.perf_counter() - start,
                test.score(joints))
        for name, rung in (RUNGS | (ABLATION if args.ablation else {})).items():
            if (name, seed) not in table:
                add(table, name, seed,
                    *one_rung(args, name, rung, seed, test, val_batches, courses))
    ladder, course = ({key: row for key, row in rows.read().items() if key[0] not in ABLATION}
                      for rows in (table, courses))
    ladder = {key: dict(zip(COLUMNS, row)) for key, row in ladder.items()}
    plots.draw_ladder(ladder, args.folder / 'ladder.png')
    plots.draw_courses(course, args.folder / 'ladder_history.png')


def add(table: Table, name: str, seed: int, samples: int, seconds: float, scores: dict) -> None:
    """A row of the table, which is printed too. The share learnt is 0 for the mean pose of the same
    seed and 100 % for its floor."""
    ends = {MEAN: 0., FLOOR: 100.}
    if name not in ends:
        done, place = table.read(), COLUMNS.index('mpjpe')
        top, floor = (done[end, str(seed)][place] for end in ends)
        ends[name] = 100 * (top - scores['mpjpe']) / (top - floor)
    values = scores | {'samples': samples, 'seconds': seconds, 'learnt': ends[name]}
    table.add((name, seed), [values[column] for column in COLUMNS])
    print(f'{name:37} seed {seed}  {samples:8,}  {seconds:6.0f} s  {scores["mpjpe"]:6.1f} mm  PA '
          f'{scores["pa_mpjpe"]:6.1f} mm  learnt {ends[name]:5.1f} %  most hidden '
          f'{scores["hidden"]:6.1f} mm', flush=True)


class Test:
    """The people of the test set, and errors on them."""

    def __init__(self, batches: list, visible: np.ndarray, skeleton: Skeleton, device):
        self.batches, self.skeleton, self.device = batches, skeleton, device
        hidden = visible.argsort(kind='stable')[:round(HIDDEN * len(visible))]
        self.hidden = torch.from_numpy(hidden)
        self.keypoints = torch.cat([batch['keypoints'] for batch in batches])[..., :2]
        self.true = torch.cat([true_joints(to(device, batch), skeleton).cpu()
                               for batch in batches])
        self.seen = torch.cat([joints_seen(to(device, batch), skeleton).cpu()
                               for batch in batches])

    def score(self, joints: Tensor, off: Tensor | None = None) -> dict[str, float]:
        """Errors of joints (N, 17, 3) from the pelvis, in mm: of all people and of the most hidden,
        of joints that are seen and that are not; and of keypoints that fall `off` (N, 24), in
        pixels."""
        errors = 1000 * (joints - self.true).norm(dim=-1)
        size = DEFAULTS['small']['resolution']
        return {'mpjpe': errors.mean().item(), 'hidden': errors[self.hidden].mean().item(),
                'pa_mpjpe': 1000 * cal_pa_mpjpe(joints, self.true).item(),
                'pixels': np.nan if off is None else off.nanmean().item() * size / 2,
                'seen_joints': errors[self.seen].mean().item(),
                'hidden_joints': errors[~self.seen].mean().item()}


def joints_seen(batch: dict, skeleton: Skeleton) -> Tensor:
    """Which of the 17 joints (B, 17) of the true bodies nothing hides."""
    points, joints = skeleton(batch['betas'], batch['rotations'])
    places, sure = batch['keypoints'].split((2, 1), dim=-1)
    return on_part(project(joints, fit_camera(points, places, sure[..., 0])), batch['labels'])


def constant(seed: int, test: Test) -> Tensor:
    """The mean pose, for each person of the test set."""
    return rendered_mean(seed, test.skeleton).expand_as(test.true)


def from_exact_keypoints(seed: int, test: Test) -> Tensor:
    """The floor: what a residual MLP tells of the test set's joints from their exact 2D keypoints,
    after passes over other people."""
    torch.manual_seed(seed)
    rng, skeleton = np.random.default_rng(seed), test.skeleton.cpu()
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 512), Block(512, 0.), Block(512, 0.),
                        nn.Linear(512, 51), nn.Unflatten(1, (17, 3)))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3, fused=True)
    places, joints = exact(rng, N_EXACT, skeleton)
    middle, spread = joints.mean(dim=0), joints.std()
    rows = [rows for _ in range(EXACT_PASSES) for rows in torch.randperm(N_EXACT).split(256)]
    scheduler = OneCycleLR(optimiser, 2e-3, len(rows))
    for some in rows:
        found = middle + spread * net(places[some])
        optimiser.zero_grad()
        cal_mpjpe(found, joints[some]).backward()
        optimiser.step()
        scheduler.step()
    net.eval()
    with torch.no_grad():
        found = middle + spread * net(test.keypoints)
    test.skeleton.to(test.device)
    return found


def exact(rng, n: int, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Exact 2D keypoints (n, 24, 2) in a crop and joints (n, 17, 3) from the pelvis of n people."""
    bodies, places, joints = sample_bodies(rng, n), [], []
    for rows in torch.arange(n).split(1000):
        points, posed = skeleton(bodies['betas'][rows], bodies['rotations'][rows])
        places.append(project(points, torch.from_numpy(look_at(rng, points.numpy()))))
        joints.append(centred(points, posed, skeleton))
    return torch.cat(places), torch.cat(joints)


def one_rung(args, name: str, rung: Rung, seed: int, test: Test, val_batches,
             courses: Table) -> tuple:
    """Trains a rung and scores it on the test set: samples, seconds and errors."""
    torch.manual_seed(seed)
    model = build(rung.kind, 'small', rung.placed, rung.shared, **rung.changes)
    model.to(test.device, memory_format=torch.channels_last)
    settings, epochs = DEFAULTS['small'], round(rung.times * args.epochs)
    weights = WEIGHTS['small'] | rung.weights
    seconds, course, start = 0., [], time.perf_counter()
    with closing(Rendered(args.people, settings['resolution'], seed, settings['batch_size'],
                          epochs)) as batches:
        for row, _ in fit(model, batches, test.skeleton, epochs, settings['lr'], weights,
                          epochs, rung.squared, rung.muon, in_bfloat16=
                          pick_precision('auto', test.device) == 'bfloat16'):
            seconds += time.perf_counter() - start
            row |= validate(model, val_batches, test.skeleton, test.device,
                            settings['resolution'])
            course.append(row)
            start = time.perf_counter()
    found = evaluate(model, test.batches, test.skeleton, test.device)
    for row in course:  # of finished rungs alone, since one that was stopped begins anew
        courses.add((name, seed, row['epoch']), (row['epoch'] * args.people * PASSES,
                                                 row['loss'], row['val_mpjpe']))
    return epochs * args.people * PASSES, seconds, test.score(found['found'], found['off'])


# ---- the command line ---------------------------------------------------------------------------

def main(argv=None) -> int:
    parser = Parser(prog='python -m pare.ladder',
                    description='Trains all rungs and compares them.')
    option = parser.add_argument
    option('--epochs', type=bounded(int, 1), default=EPOCHS, metavar='N', help='of each rung')
    option('--people', type=bounded(int, 100), default=N_PEOPLE, metavar='N',
           help='rendered for each epoch')
    option('--seeds', type=bounded(int, 0, 2 ** 31), nargs='+', default=[0, 1, 2], metavar='N',
           help='of weights and people')
    option('--ablation', action='store_true', help='also the default without one thing each')
    option('--folder', type=Path, default=plots.REPORT, metavar='FOLDER',
           help='for tables and charts')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    args = parser.parse_args(argv)
    return status(parser, lambda: climb(args), lambda: 'the same command goes on')


if __name__ == '__main__':
    command(main)
