"""The experiments of the report; run by hand.

    python -m plots.experiments --quick          # all of it, small, in 5 minutes, into quick/
    python -m plots.experiments                  # all of it on synthetic people
    python -m plots.experiments network --data data_train.pkl --test data_test.pkl --every 3
    python -m plots.experiments errors --data data_train.pkl --test data_test.pkl
    python -m plots.experiments weak --data data_train.pkl --test data_test.pkl --every 8 \\
        --epochs 24
    python -m plots.experiments detector --test data_test.pkl
    python -m plots.experiments pictures

`network` varies blocks and layers, `errors` asks where the error comes from, `weak` compares ways
to learn without 3D, `detector` lifts what a detector would show, with the shipped weights,
`pictures` draws the joints with their numbers and a turning skeleton. Results of the first three
are kept in plots/report/*.csv as they come, and the charts are drawn from them; an interrupted run
continues. Delete lines to measure them anew.
"""
import argparse
import time
from dataclasses import astuple, dataclass, fields
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch import Tensor, nn

from common.augment import augment
from common.camera import ROOT, project, smallest_rotation, triangulate
from common.charts import (BLUE, GREEN, GREY, ORANGE, PINK, UNIT, add_cm, draw_joints, new_figure,
                           save_figure, tidy)
from common.command import has_bfloat16
from common.files import Table, write_csv
from common.film import TURN, animate
from common.people import FACE, GAITS, LENGTHS, forward_kinematics, random_angles, sample
from common.lifting import BONES_PER_HEIGHT, fill_in, lift_points, visible
from common.skeleton import BONES, JOINTS, LIMBS, bone_sum, find_bones, joints_of, with_root
from common.views import TWO_VIEWS, prepare_views
from data import SUPERVISED, find_camera, load, split_blocks
from eval import load_model
from metrics import cal_mpjpe, cal_n_mpjpe, cal_pa_mpjpe
from model import LiftModel
from plots import REPORT
from training import (BATCH_SIZE, RATE, as_tensors, fit, image_error, one_cycle, reprojection_loss,
                      supervised_loss)

CPU = torch.device('cpu')


def trained(model: LiftModel, poses: dict, epochs: int, lr: float = RATE, loss=supervised_loss,
            crossed: bool = True) -> LiftModel:
    """Train the model as training.py does."""
    model.set_statistics(poses['joint_2d'], poses['joint_3d'])
    model.in_bfloat16 = has_bfloat16(CPU)
    bones = find_bones(poses['joint_3d'].numpy()) if crossed else ()
    for _ in fit(model, poses, **one_cycle(model, lr, poses, epochs, BATCH_SIZE), loss=loss,
                 augmentation=partial(augment, bones=bones), epochs=epochs):
        pass
    return model


# ---- the network --------------------------------------------------------------------------------

@dataclass(frozen=True)
class Variant:
    """A network and its rate; the defaults are those of training.py."""
    norm: str = 'before ReLU'
    dropout: float = 0.
    layers: int = 2
    skip: str = 'with'
    n_blocks: int = 2
    hidden_layer: int = 1024
    rate: float = RATE


QUESTIONS = {
    'batch norm': [*(Variant(norm=norm) for norm in ('before ReLU', 'after ReLU', 'none')),
                   *(Variant(norm=norm, rate=rate * RATE) for norm, rate in (
                       ('before ReLU', .5), ('none', .5), ('before ReLU', 4), ('none', 4)))],
    'dropout': [Variant(dropout=dropout) for dropout in (0., .1, .25, .5)],
    'skip connection': [Variant(skip=skip, n_blocks=n_blocks) for n_blocks in (2, 4)
                        for skip in ('with', 'without')],
    'layers in a block': [Variant(layers=layers) for layers in (2, 1)],
    'blocks': [Variant(n_blocks=n_blocks) for n_blocks in (1, 2, 3, 4)],
    'width': [Variant(hidden_layer=width) for width in (256, 512, 1024)]}


def build(variant: Variant) -> LiftModel:
    """Make a LiftModel with blocks as in the variant."""
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
    """Train each variant from each seed; keep and draw errors, seconds and parameters."""
    table = Table(args.plots / 'network.csv', [field.name for field in fields(Variant)]
                  + ['data', 'seed'], ('val', 'test', 'seconds', 'parameters'))
    train_set, val_set, test_set = supervised_sets(args)
    variants = dict.fromkeys(variant for group in QUESTIONS.values() for variant in group)
    for seed in args.seeds:
        for variant in variants:
            key = *map(str, astuple(variant)), args.name, str(seed)
            if key in table:
                continue
            torch.manual_seed(seed)
            model, start = build(variant), time.perf_counter()
            trained(model, train_set, args.epochs, variant.rate)
            seconds = time.perf_counter() - start
            val, test = (cal_mpjpe(model.lift(part['joint_2d']), part['truth']).item()
                         for part in (val_set, test_set))
            n_parameters = sum(weights.numel() for weights in model.parameters())
            table.add(key, (val, test, seconds, n_parameters))
            print(f'seed {seed}  {", ".join(key[:-2])}: test {test:.5f}, {seconds:.0f} s',
                  flush=True)
    draw_network(network_charts(table), args.plots / 'network.png')


def network_charts(table: Table) -> dict:
    """Return for each question the (label, {data: values (n_seeds, 4)}) of its variants."""
    measured = {}
    for (*variant, data, _), values in table.read().items():
        measured.setdefault(tuple(variant), {}).setdefault(data, []).append(values)
    return {question: [(value_of(question, variant),
                        {data: np.array(values) for data, values in
                         measured.get(tuple(map(str, astuple(variant))), {}).items()})
                       for variant in group]
            for question, group in QUESTIONS.items()}


SETS = {'data_train / 3': 'motion capture, every third pose', 'synthetic': 'synthetic people'}


def value_of(question: str, variant: Variant) -> str:
    """Return the variant's answer to a question, as a label."""
    rate = f',\nrate x {variant.rate / RATE:g}' if variant.rate != RATE else ''
    return str({'batch norm': variant.norm + rate,
                'dropout': f'{variant.dropout:g}', 'layers in a block': variant.layers,
                'skip connection': f'{variant.skip},\n{variant.n_blocks} blocks',
                'blocks': variant.n_blocks, 'width': variant.hidden_layer}[question])


def supervised_sets(args: argparse.Namespace) -> tuple[dict, dict, dict]:
    """Return poses to train on, to validate and to test."""
    joints, test = read(args, SUPERVISED)
    joints = {key: joints[key] for key in (*SUPERVISED, 'focal_len_1') if key in joints}
    joints, _ = find_camera(joints)
    return tuple(as_tensors(part, CPU) for part in (
        *split_blocks(joints), {key: test[key] for key in SUPERVISED}))


def draw_network(charts: dict, path) -> None:
    """Draw the error of networks over that of the default, a chart for each question.

    `charts` maps a question to (label, {data: values}), values (n_seeds, 4): validation MPJPE, test
    MPJPE, seconds, parameters. The first variant is the default. Times are the shortest of the
    seeds, on the first data.
    """
    figure = new_figure(12, 5.6)
    first = next(iter(charts.values()))[0][1]
    default = {data: values[:, :2].mean(axis=0) for data, values in first.items()}
    timed = next(iter(first))
    colours = dict(zip(default, (BLUE, ORANGE, GREEN)))
    axes = figure.subplots(2, 3, sharey='row', width_ratios=(2.2, 1, 1)).flat
    for ax, (question, variants) in zip(axes, charts.items()):
        labels = []
        for place, (label, results) in enumerate(variants):
            for data, values in results.items():
                val, test = (values[:, :2] / default[data]).T
                x = place + .14 * (list(colours).index(data) - (len(colours) - 1) / 2)
                ax.errorbar(x, test.mean(), test.std(), color=colours[data], marker='o',
                            capsize=4)
                ax.plot(x, val.mean(), color=colours[data], marker='o', markerfacecolor='white',
                        markersize=5)
            if timed in results:
                seconds, n_parameters = results[timed].min(axis=0)[2:]
                ratio = seconds / first[timed].min(axis=0)[2]
                millions = [f'\n{number / 1e6:.1f} M' for number in (
                    n_parameters, first[timed][0, 3])]
                label += f'\n{ratio:.1f} t' + millions[0] * (millions[0] != millions[1])
            labels.append(label)
        ax.axhline(1, color=GREY, linewidth=.8)
        ax.set_xticks(range(len(labels)), labels, fontsize=8)
        ax.margins(x=.2)
        tidy(ax, question, '', 'MPJPE over the default\'s' if ax.get_subplotspec().is_first_col()
              else '')
        ax.grid(visible=False, axis='x')
    keys = [Line2D([], [], color=colour, marker='o', label=f'{SETS.get(data, data)}, test')
            for data, colour in colours.items()]
    keys.append(Line2D([], [], color=GREY, marker='o', markerfacecolor='white', linestyle='',
                       label='validation'))
    keys.append(Line2D([], [], linestyle='',
                       label='t: training time, M: million parameters, if not 4.3'))
    figure.legend(handles=keys, loc='outside lower center', ncols=len(keys), frameon=False)
    save_figure(figure, path)


# ---- where the error comes from -----------------------------------------------------------------

def errors(args: argparse.Namespace) -> None:
    """Draw a model's errors along the ray and across it: by joint, view and how unusual a pose is.

    The joints must be those of JOINTS.
    """
    table = Table(args.plots / 'errors.csv', ('data', 'chart', 'x'),
                  ('error', 'along', 'across', 'low', 'high'))
    if (args.name,) not in table:
        train_set, _, test_set = supervised_sets(args)
        torch.manual_seed(args.seeds[0])
        model = trained(LiftModel(dropout=0), train_set, args.epochs)
        lifted, truth = model.lift(test_set['joint_2d']).numpy(), test_set['truth'].numpy()
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
    charts = {}
    for (data, chart, x), values in table.read().items():
        if data == args.name:
            charts.setdefault(chart, {})[x] = values
    draw_errors(charts, args.plots / 'errors.png')


def split_error(lifted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return (3, N, J): the distance of joints (N, J, 3) from the truth, its part along the ray and
    its part across the ray."""
    ray = truth / np.linalg.norm(truth, axis=-1, keepdims=True)
    along = np.vecdot(lifted - truth, ray)
    across = np.linalg.norm(lifted - truth - along[..., None] * ray, axis=-1)
    return np.stack([np.linalg.norm(lifted - truth, axis=-1), np.abs(along), across])


def summary(parts: np.ndarray) -> tuple:
    """Return the means of error, along and across (3, N), and the quartiles of the error."""
    return (*parts.mean(axis=1), *np.quantile(parts[0], (.25, .75)))


def facing(joint_3d: np.ndarray) -> np.ndarray:
    """Return angles (N,) in degrees about y, by the shoulders: 0 to the camera, 90 right."""
    left = joint_3d[:, JOINTS.index('LShoulder')] - joint_3d[:, JOINTS.index('RShoulder')]
    return np.degrees(np.arctan2(-left[:, 2], left[:, 0]))


def distance_to_nearest(joint_3d: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distance (N,) of poses (N, J, 3) to the nearest of `others`, RMS over joints.

    All are turned about the vertical to face the same way, and scaled to one size.
    """
    def normalised(joints):
        angle = torch.from_numpy(np.radians(facing(joints)))
        sin, cos, zero = angle.sin(), angle.cos(), 0 * angle
        turn = torch.stack([cos, zero, -sin, zero, zero + 1, zero, sin, zero, cos], dim=-1)
        pose = torch.from_numpy(joints - ROOT) @ turn.view(-1, 3, 3).mT
        size = pose.square().sum(dim=2).mean(dim=1).sqrt()
        return (pose / size[:, None, None]).flatten(1) / len(JOINTS) ** .5

    others = normalised(others)
    return torch.cat([torch.cdist(part, others).amin(dim=1)
                      for part in normalised(joint_3d).split(500)]).numpy()


def draw_errors(charts: dict, path) -> None:
    """Draw where the error comes from, along the ray and across it.

    `charts` maps 'joint', 'view' and 'unusual' to {x: (error, along, across, low, high)}, means and
    the quartiles of the error.
    """
    figure = new_figure(10, 3.8)
    joint, view, unusual = figure.subplots(1, 3)
    names, values = zip(*sorted(charts['joint'].items(), key=lambda pair: pair[1][0]))
    rows = np.arange(len(names))
    for column, shift, colour, label in ((1, .2, BLUE, 'along the ray'),
                                         (2, -.2, ORANGE, 'across it')):
        joint.barh(rows + shift, np.array(values)[:, column], .4, color=colour, label=label)
    joint.set_yticks(rows, names)
    joint.locator_params(axis='x', nbins=4)
    tidy(joint, 'by joint', f'mean error ({UNIT})')
    joint.grid(visible=False, axis='y')
    for ax, chart, title, xlabel in (
            (view, 'view', 'by view', 'turn of the body (degrees)'),
            (unusual, 'unusual', 'by pose',
             'distance to the nearest training\npose, over the size of a pose')):
        x = np.array([float(at) for at in charts[chart]])
        error, along, across, low, high = np.transpose(list(charts[chart].values()))
        ax.fill_between(x, low, high, color=GREY, alpha=.2, linewidth=0, label='half of the poses')
        ax.plot(x, error, color=GREY, linewidth=5, alpha=.4, label='mean error')
        ax.plot(x, along, color=BLUE, marker='.')
        ax.plot(x, across, color=ORANGE, marker='.')
        ax.set_ylim(bottom=0)
        tidy(ax, title, xlabel, '')
    add_cm(unusual)
    view.set_xticks(range(0, 181, 45))
    handles, labels = (sum(parts, []) for parts in zip(
        joint.get_legend_handles_labels(), view.get_legend_handles_labels()))
    figure.legend(handles, labels, loc='outside lower center', ncols=4, frameon=False)
    save_figure(figure, path)


# ---- without 3D ---------------------------------------------------------------------------------

NOISES = (0., .002, .005, .01)
WAYS = ('classic, two views at test time', 'supervised', 'triangulation', 'reprojection',
        'reprojection, agreement', 'reprojection, agreement, crossed poses')


def weak(args: argparse.Namespace) -> None:
    """Compare WAYS to learn, all with equally many lifts, under noise in training and test."""
    table = Table(args.plots / 'weak.csv', ('way', 'noise', 'data', 'seed'), ('mpjpe',))
    joints, test = read(args, (*TWO_VIEWS, 'joint_3d'))
    for seed, noise in product(args.seeds, NOISES):
        train_set, _ = prepare_views(noisy(joints, noise, 2 * seed + 1))
        test_set = noisy(test, noise, 2 * seed + 2)
        for way in WAYS:
            key = way, f'{noise:g}', args.name, str(seed)
            if key not in table:
                lifted = (triangulate(test_set) if 'classic' in way else
                          learnt(way, train_set, args, seed).lift(
                              torch.from_numpy(test_set['joint_2d_1'])))
                mpjpe = cal_mpjpe(lifted, test_set['joint_3d']).item()
                table.add(key, [mpjpe])
                print(f'seed {seed}  noise {noise:<5}  {way:32}  MPJPE {mpjpe:.5f}', flush=True)
    errors = {}
    for (way, noise, data, _), (mpjpe,) in table.read().items():
        if data == args.name:
            errors.setdefault(way, {}).setdefault(float(noise), []).append(mpjpe)
    draw_weak(errors, args.plots / 'weak.png')


def noisy(joints: dict, noise: float, seed: int) -> dict:
    """Add normal noise to each coordinate of both views."""
    rng = np.random.default_rng(seed)
    return joints | {key: (joints[key] + rng.normal(0, noise, joints[key].shape)).astype(np.float32)
                     for key in ('joint_2d_1', 'joint_2d_2')}


def learnt(way: str, joints: dict, args: argparse.Namespace, seed: int) -> LiftModel:
    """Train a LiftModel on a dictionary of `prepare_views` in one of WAYS.

    Ways that also lift view 2 do so for every other sample and train for 2/3 of the epochs of the
    others, so all make the same number of lifts.
    """
    supervised = way == 'supervised'
    joints = {key: array for key, array in joints.items()
              if key != ('triangulated' if supervised else 'joint_3d')}
    joints, _ = find_camera(joints)
    torch.manual_seed(seed)
    return trained(LiftModel(dropout=0), as_tensors(joints, CPU),
                   args.epochs if 'agreement' in way else args.epochs * 3 // 2,
                   loss=LOSSES[way], crossed=supervised or 'crossed' in way)


def one_view_reprojection(model: LiftModel, poses: dict) -> Tensor:
    """Reproject the lifts of view 1 alone onto both views."""
    root = poses['joint_3d'].new_tensor(ROOT)
    return image_error((model(poses['joint_2d']) - root) @ poses['turn'], poses)


# the target of 'triangulation' is the triangulated pose
LOSSES = {'supervised': supervised_loss, 'triangulation': supervised_loss,
          'reprojection': one_view_reprojection, 'reprojection, agreement': reprojection_loss,
          'reprojection, agreement, crossed poses': reprojection_loss}


def draw_weak(errors: dict, path) -> None:
    """Draw the MPJPE at each noise of the 2D points, and its ratio to that of 'supervised'.

    `errors` maps a way of learning to {noise: MPJPE of each seed}. The first chart shows
    'supervised', 'classic' and the way with crossed poses, the second all but 'classic'. Dashed:
    both lifts must agree. Bars: standard deviation over seeds.
    """
    figure = new_figure(10, 4)
    whole, ratio = figure.subplots(1, 2)
    colours = {'supervised': 'black', 'triangulation': BLUE, 'reprojection': ORANGE,
               'classic': PINK, 'crossed poses': GREEN}
    noises = sorted({noise for points in errors.values() for noise in points})
    for way, points in errors.items():
        name, *more = way.split(', ')
        style = {'color': colours[more[1] if len(more) > 1 else name], 'marker': 'o',
                 'markersize': 4, 'capsize': 3, 'linestyle': '--' if 'agreement' in more else '-'}
        places = [noises.index(noise) for noise in points]
        values = np.array(list(points.values()))  # (noise, seed)
        if name in ('supervised', 'classic') or 'crossed poses' in more:
            whole.errorbar(places, values.mean(1), values.std(1), label=way, **style)
        if name != 'classic':
            values = values / np.array([errors['supervised'][noise] for noise in points])
            ratio.errorbar(places, values.mean(1), values.std(1), label=way, **style)
    for ax in (whole, ratio):
        ax.set_xticks(range(len(noises)), [f'{noise:g}' if noise else 'exact' for noise in noises])
        ax.legend(frameon=False, fontsize=8)
    whole.set_ylim(bottom=0)
    add_cm(whole)
    xlabel = 'noise of the 2D joints (standard deviation), not to scale'
    tidy(whole, f'MPJPE on the test set ({UNIT})', xlabel)
    tidy(ratio, 'its ratio to that of supervised learning', xlabel)
    save_figure(figure, path)


# ---- points of a detector -----------------------------------------------------------------------

HEIGHT = 1.75  # metres
DAMAGE = .01, .1  # noise over the height, share that is missing
SHOWN = {'the 15 joints': (0, 0), 'the 15 joints, damaged': DAMAGE,
         'points': (0, 0), 'points, damaged': DAMAGE}


def detector(args: argparse.Namespace) -> None:
    """Write the errors in mm of people lifted as `eval.py --keypoints` does: synthetic people and,
    if given, those of --test."""
    model, rows = load_model(args.weights), []
    people = {'synthetic people': sample(args.poses // 2, seed=1)}
    if args.test:
        people['motion capture'] = load(args.test)
    for name, joints in people.items():
        truth, *image = photographed(joints['joint_3d'], joints.get('joint_detected'))
        for shown, damage in SHOWN.items():
            lifted, *_ = lift_points(model, seen_as(shown, *image, *damage))
            poses = 1000 * (lifted[:, :-1] - lifted[:, -1:]), 1000 * truth
            errors = cal_n_mpjpe(*poses, root=(0, 0, 0)).item(), cal_pa_mpjpe(*poses).item()
            rows.append([name, shown, *(f'{error:.1f}' for error in errors)])
            print(f'{name:16}  {shown:26}  N-MPJPE {errors[0]:5.1f} mm  '
                  f'PA-MPJPE {errors[1]:5.1f} mm', flush=True)
    write_csv(args.plots / 'detector.csv', ('data', 'shown', 'n_mpjpe', 'pa_mpjpe'), rows)


def photographed(joint_3d: np.ndarray, points: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Put people of HEIGHT anywhere in pictures of 16 to 9, with focal lengths of 0.7 to 2 widths,
    2 to 20 m away.

    Returns their truth (N, 15, 3) about the root, in metres in the frame of the camera; joints and
    a detector's points (N, 15, 2), on the plane at distance 1; and the distance (N, 1, 1). Without
    points nose and ears are put between neck and head, where synthetic people have ears.
    """
    if points is None:
        neck, head = (joint_3d[:, [JOINTS.index(name)]] for name in ('Neck', 'Head'))
        face = (neck + .54 * (head - neck)).repeat(3, axis=1)
        points = np.concatenate([face, joint_3d[:, LIMBS]], axis=1)
    rng, n = np.random.default_rng(9), len(joint_3d)
    aside = rng.uniform(-.5, .5, (n, 2)) * (1, 9 / 16) / rng.uniform(.7, 2, (n, 1))
    ray = np.insert(aside, 2, -1, axis=1)
    turn = smallest_rotation(ray / np.linalg.norm(ray, axis=1, keepdims=True), ROOT)
    metres = HEIGHT * BONES_PER_HEIGHT / bone_sum(joint_3d - ROOT)
    truth, points = ((part - ROOT) * metres @ turn for part in (joint_3d, points))
    distance = np.exp(rng.uniform(np.log(2), np.log(20), (n, 1, 1)))
    joints, points = (project(part + distance * ROOT @ turn, np.ones(2))
                      for part in (truth, points))
    return truth, joints, points, distance


def seen_as(shown: str, joints: np.ndarray, points: np.ndarray, distance: np.ndarray,
            noise: float, missing: float) -> np.ndarray:
    """Return joints (N, 16, 2) as SHOWN says; the root follows from shoulders and hips."""
    rng = np.random.default_rng(10)
    joints, points = (part + rng.normal(0, noise * HEIGHT, part.shape) / distance
                      for part in (joints, points))
    hidden = rng.random(points.shape[:2]) < missing
    joint_2d, seen = joints_of(points), visible(hidden)
    if shown.startswith('the 15'):
        among = [*range(3), *LIMBS]  # any 3 stand in for the face: the root needs none of it
        root, seen_root = joints_of(joints[:, among])[:, -1:], visible(hidden[:, among])[:, -1:]
        joint_2d, seen = np.hstack([joints, root]), np.hstack([~hidden, seen_root])
    return fill_in(joint_2d, seen)


# ---- pictures -----------------------------------------------------------------------------------

def walking(n: int, stride: float = 1.) -> np.ndarray:
    """Return joints (n, 15, 3) in metres about the root of a person who takes two steps towards the
    camera and to the image's right; with a stride of 0 the person stands, the arms a little out."""
    angles = {name: 0 * angle for name, angle in random_angles(np.random.default_rng(0), n).items()}
    lengths = {name: np.full(n, .87 * markers) for name, (markers, *_) in LENGTHS.items()}
    thigh, knee = (stride * np.interp(np.arange(n) / n + [[0], [.5]], np.arange(10) / 10, curve,
                                      period=1) for curve in GAITS[0][:2])
    angles['yaw'] += 35 * stride
    angles |= {'hip': thigh, 'knee': knee, 'elbow': 25 * stride + 0 * knee,
               'plane': 75 * stride + 0 * knee,
               'elevation': thigh[::-1] - 10 * stride + 35 * (1 - stride)}
    return forward_kinematics(angles, lengths, np.tile(FACE, (n, 1, 1)))[:, :15]


def pictures(args: argparse.Namespace) -> None:
    """Draw the joints with their numbers, and a walking person, lifted."""
    stands = np.vstack([walking(1, stride=0)[0], (0, 0, 0)])
    draw_joints(stands[:, :2], BONES, (*JOINTS, 'root, not\nin the array'),
                args.plots / 'joints.png')
    points = project(walking(TURN) / 4.5 + ROOT, np.full(2, 1.1475))
    lifted = load_model(args.weights).lift(points)
    animate(with_root(points, (0, 0))[:, None], with_root(lifted, ROOT)[:, None], BONES, JOINTS,
            args.plots / 'turning.gif')


# ---- the command line ---------------------------------------------------------------------------

def read(args: argparse.Namespace, need) -> tuple[dict, dict]:
    """Return every n-th training sample and all test samples, of files or of synthetic people."""
    joints = load(args.data, need) if args.data else sample(args.poses, seed=0)
    test = load(args.test, need) if args.test else sample(args.poses // 4, seed=1)
    return {key: array[::args.every] for key, array in joints.items()}, test


def main() -> None:
    experiments = {'network': network, 'errors': errors, 'weak': weak, 'detector': detector,
                   'pictures': pictures}
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('what', nargs='*', default=list(experiments), metavar='|'.join(experiments),
                        help='experiments to run')
    parser.add_argument('--data', help='poses to train on; if missing, synthetic people')
    parser.add_argument('--test', help='poses to score')
    parser.add_argument('--every', type=int, default=1, help='train on every n-th sample')
    parser.add_argument('--poses', type=int, default=10_000, help='of synthetic people')
    parser.add_argument('--epochs', type=int, default=8)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2],
                        help='of network and weak; errors takes the first alone')
    parser.add_argument('--weights', default=Path(__file__).parents[1] / 'liftModel',
                        help='of detector and pictures')
    parser.add_argument('--plots', type=Path, default=REPORT, help='folder for .csv and .png')
    parser.add_argument('--quick', action='store_true',
                        help='the same as --poses 4000 --epochs 2 --seeds 0 --plots quick')
    parser.error = lambda message: parser.exit(2, f'experiments: {message}\n')
    args = parser.parse_args()
    if bool(args.data) != bool(args.test) and args.what != ['detector']:
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
