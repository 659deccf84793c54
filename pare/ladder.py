"""From a plain ResNet to part attention, a step at a time, on rendered people.

    python -m pare.ladder                        # three seeds; continues an interrupted run
    python -m pare.ladder --people 1000 --epochs 2 --seeds 0 --folder /tmp/ladder

Each rung is trained on the same people and scored on the test set. Results go to ladder.csv, one
row a rung and seed, and validation after each epoch to ladder_history.csv.
"""
import argparse
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from common.command import (Parser, add_device, bounded, exit_status, pick_device,
                            pick_precision)
from common.files import Table
from metrics import cal_mpjpe, cal_pa_mpjpe
from model import Block
from pare import plots
from pare.batches import rendered_mean, rendered_val
from pare.body import Body, Skeleton, fit_camera, project
from pare.eval import N_TEST, TEST_SEED
from pare.metrics import centred, evaluate, on_part, to_device, true_joints, validate
from pare.model import build
from pare.people import (PASSES, Rendered, draw_aims, look_at, rendered_samples,
                         sample_bodies)
from pare.recipes import SMALL, Recipe
from pare.standin import make_body
from pare.training import fit

EPOCHS, N_PEOPLE = 4, 2500        # defaults: 30,000 images a rung
HIDDEN = .3                       # share of the test set: the most hidden people
MEAN, FLOOR = 'mean pose', 'exact 2D keypoints'
N_EXACT, EXACT_PASSES = 100_000, 8  # people whose exact keypoints teach the floor
COLUMNS = ('samples', 'seconds', 'mpjpe', 'pa_mpjpe', 'learnt', 'hidden', 'pixels', 'seen_joints',
           'hidden_joints')


def rung(weights: dict, squared=False, muon=True, times=1, one_cycle=True, **network) -> Recipe:
    """Return the small recipe with changes; its `epochs` are the factor for --epochs."""
    return replace(SMALL, network=SMALL.network | network, weights=SMALL.weights | weights,
                   squared=squared, muon=muon, epochs=times, one_cycle=one_cycle)


NO_EXTRAS = {'places': 0., 'skeletons': 0.}
NO_LABELS = NO_EXTRAS | {'parts': 0.}
SQUARES = {'keypoints': 5., 'points_3d': 5., 'places': 5.}  # about as large as distances
RUNGS = {'ResNet and MLP': rung(NO_LABELS, kind='mlp'),
         'ResNet and MLP, twice as long': rung(NO_LABELS, kind='mlp', times=2),
         '+ branches and attention': rung(NO_LABELS, placed=False, shared=True),
         '+ 24 MLPs': rung(NO_LABELS, placed=False),
         '+ part loss': rung(NO_EXTRAS, placed=False),
         '+ supervised places, seen by all': rung({'skeletons': 0.}),
         '+ bodies without images': rung({}),
         '+ bodies without images, twice as long': rung({}, times=2),
         '+ rate held, then to zero (default)': rung({}, one_cycle=False)}
ABLATION = {'without skip connections': rung({}, skips=False),
            'with maps half as wide': rung({}, fine=False),
            'with squares for distances': rung(SQUARES, squared=True),
            'with Adam alone': rung({}, muon=False)}


def climb(args: argparse.Namespace) -> None:
    """Train and score the rungs that are not in the table yet, then draw it."""
    args.folder.mkdir(parents=True, exist_ok=True)
    table = Table(args.folder / 'ladder.csv', ('rung', 'seed'), COLUMNS)
    courses = Table(args.folder / 'ladder_history.csv', ('rung', 'seed', 'epoch'),
                    ('samples', 'loss', 'val_mpjpe'))
    device, skeleton = pick_device(args.device), Skeleton(make_body())
    samples, visible = rendered_samples(N_TEST, SMALL.resolution, TEST_SEED)
    test = Test(list(DataLoader(samples, 100)), visible, skeleton.to(device), device)
    val_batches = rendered_val(SMALL.resolution)
    for seed in args.seeds:
        if (MEAN, seed) not in table:
            add(table, MEAN, seed, 0, 0., test.score(constant(seed, test)))
        if (FLOOR, seed) not in table:
            start = time.perf_counter()
            joints = from_exact_keypoints(seed, test)
            add(table, FLOOR, seed, N_EXACT * EXACT_PASSES, time.perf_counter() - start,
                test.score(joints))
        for name, recipe in (RUNGS | (ABLATION if args.ablation else {})).items():
            if (name, seed) not in table:
                recipe = replace(recipe, epochs=recipe.epochs * args.epochs)
                add(table, name, seed,
                    *one_rung(args.people, name, recipe, seed, test, val_batches, courses))
    ladder, course = ({key: row for key, row in one.read().items() if key[0] not in ABLATION}
                      for one in (table, courses))
    ladder = {key: dict(zip(COLUMNS, row)) for key, row in ladder.items()}
    plots.draw_ladder(ladder, args.folder / 'ladder.png')
    plots.draw_courses(course, args.folder / 'ladder_history.png')


def add(table: Table, name: str, seed: int, samples: int, seconds: float, scores: dict) -> None:
    """Add a row to the table and print it.

    The share learnt is 0 for the mean pose of the same seed and 100 % for its floor.
    """
    ends = {MEAN: 0., FLOOR: 100.}
    if name not in ends:
        done, place = table.read(), COLUMNS.index('mpjpe')
        top, floor = (done[end, str(seed)][place] for end in ends)
        ends[name] = 100 * (top - scores['mpjpe']) / (top - floor)
    values = scores | {'samples': samples, 'seconds': seconds, 'learnt': ends[name]}
    table.add((name, seed), [values[column] for column in COLUMNS])
    print(f'{name:38} seed {seed}  {samples:8,}  {seconds:6.0f} s  {scores["mpjpe"]:6.1f} mm  PA '
          f'{scores["pa_mpjpe"]:6.1f} mm  learnt {ends[name]:5.1f} %  most hidden '
          f'{scores["hidden"]:6.1f} mm', flush=True)


class Test:
    """The people of the test set, and errors on them."""

    def __init__(self, batches: list, visible: np.ndarray, skeleton: Skeleton, device):
        self.batches, self.skeleton, self.device = batches, skeleton, device
        hidden = visible.argsort(kind='stable')[:round(HIDDEN * len(visible))]
        self.hidden = torch.from_numpy(hidden)
        self.keypoints = torch.cat([batch['keypoints'] for batch in batches])[..., :2]
        self.true = torch.cat([true_joints(to_device(device, batch), skeleton).cpu()
                               for batch in batches])
        self.seen = torch.cat([joints_seen(to_device(device, batch), skeleton).cpu()
                               for batch in batches])

    def score(self, joints: Tensor, off: Tensor | None = None) -> dict[str, float]:
        """Return errors of joints (N, 17, 3) from the pelvis, in mm: of all people and the most
        hidden, of visible and hidden joints. `off` (N, 24) are the errors of keypoints, returned in
        pixels."""
        errors = 1000 * (joints - self.true).norm(dim=-1)
        return {'mpjpe': errors.mean().item(), 'hidden': errors[self.hidden].mean().item(),
                'pa_mpjpe': 1000 * cal_pa_mpjpe(joints, self.true).item(),
                'pixels': np.nan if off is None else off.nanmean().item()
                * SMALL.resolution / 2,
                'seen_joints': errors[self.seen].mean().item(),
                'hidden_joints': errors[~self.seen].mean().item()}


def joints_seen(batch: dict, skeleton: Skeleton) -> Tensor:
    """Tell which of the 17 joints (B, 17) of the true bodies nothing hides."""
    points = skeleton(batch['betas'], batch['rotations'])
    places, sure = batch['keypoints'].split((2, 1), dim=-1)
    camera = fit_camera(points.keypoints, places, sure[..., 0])
    return on_part(project(points.h36m, camera), batch['labels'])


def constant(seed: int, test: Test) -> Tensor:
    """Return the mean pose for each person of the test set."""
    return rendered_mean(seed, test.skeleton).expand_as(test.true)


def from_exact_keypoints(seed: int, test: Test) -> Tensor:
    """Find the floor: the joints that a residual MLP lifts from exact 2D keypoints of the test set.

    It learns from N_EXACT other people.
    """
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
    """Draw exact 2D keypoints (n, 24, 2) in crops like those of images, and joints (n, 17, 3) from
    the pelvis."""
    bodies, body, places, joints = sample_bodies(rng, n), Body(make_body()), [], []
    for rows in torch.arange(n).split(1000):
        person = bodies['betas'][rows], bodies['rotations'][rows]
        points = skeleton(*person)
        camera = look_at(body(*person)[0], draw_aims(rng, len(rows)))
        places.append(project(points.keypoints, camera))
        joints.append(centred(points, skeleton))
    return torch.cat(places), torch.cat(joints)


def one_rung(n_people: int, name: str, recipe: Recipe, seed: int, test: Test, val_batches,
             courses: Table) -> tuple:
    """Train a rung and score it on the test set; return samples, seconds and errors."""
    torch.manual_seed(seed)
    model = build(**recipe.network).to(test.device, memory_format=torch.channels_last)
    in_bfloat16 = pick_precision('auto', test.device) == 'bfloat16'
    seconds, course, start = 0., [], time.perf_counter()
    with closing(Rendered(n_people, recipe.resolution, seed, recipe.batch_size,
                          recipe.epochs, test.device)) as batches:
        for row, _ in fit(model, batches, test.skeleton, recipe, in_bfloat16=in_bfloat16):
            seconds += time.perf_counter() - start
            row |= validate(model, val_batches, test.skeleton, test.device, recipe.resolution)
            course.append(row)
            start = time.perf_counter()
    found = evaluate(model, test.batches, test.skeleton, test.device)
    for row in course:  # only of finished rungs: an interrupted one begins anew
        courses.add((name, seed, row['epoch']), (row['epoch'] * n_people * PASSES,
                                                 row['loss'], row['val_mpjpe']))
    return recipe.epochs * n_people * PASSES, seconds, test.score(found['found'], found['off'])


# ---- the command line ---------------------------------------------------------------------------

def main(argv=None) -> None:
    """Climb the ladder."""
    parser = Parser(prog='python -m pare.ladder',
                    description='Train all rungs and compare them.')
    option = parser.add_argument
    option('--epochs', type=bounded(int, 1), default=EPOCHS, metavar='N',
           help='epochs of a rung; a rung "twice as long" has twice as many')
    option('--people', type=bounded(int, 100), default=N_PEOPLE, metavar='N',
           help='rendered for each epoch')
    option('--seeds', type=bounded(int, 0, 2 ** 31), nargs='+', default=[0, 1, 2], metavar='N',
           help='random seeds')
    option('--ablation', action='store_true',
           help='also change one component of "+ bodies without images" at a time')
    option('--folder', type=Path, default=plots.REPORT, metavar='FOLDER',
           help='for tables and charts')
    add_device(parser)
    args = parser.parse_args(argv)
    with exit_status(parser, interrupted=lambda: 'the same command continues'):
        climb(args)


if __name__ == '__main__':
    main()
