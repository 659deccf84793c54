"""The command line of a training."""
import argparse
from dataclasses import replace
from pathlib import Path

from common.command import (Parser, add_device, bounded, keep_inputs, pick_device,
                            pick_precision)
from common.states import state_path
from pare.batches import default_workers, share_of
from pare.recipes import RECIPES, Recipe
from pare.smpl import files_of

CHANGES = 'resolution', 'epochs', 'part_epochs', 'lr', 'batch_size'  # options that change a recipe
N_PEOPLE = 10_000                    # rendered for an epoch
COLUMNS = ('epoch', 'loss', 'keypoints', 'points_3d', 'pose', 'betas', 'camera', 'parts', 'places',
           'skeletons', 'val_mpjpe', 'val_pa_mpjpe', 'val_pixels', 'images_per_s')


def make_parser() -> Parser:
    """Make the parser of a training."""
    parser = Parser(
        prog='python -m pare.training', description='Train a regressor of the SMPL body.',
        epilog='example: python -m pare.training --size full --body SMPL_NEUTRAL.pkl '
               '--images /data --train 3dpw_train.npz:0.6 mpii_train.npz:0.4')
    option = parser.add_argument
    option('--train', nargs='+', metavar='FILE[:SHARE]', help='sets of photographs, .npz, and '
           'their shares of an epoch; default: rendered people')
    option('--images', nargs='+', default=['.'], metavar='FOLDER',
           help='folder to which imgname is relative: one for all sets, or one each; one more for '
           '--val, which otherwise shares the last')
    option('--fits', nargs='+', default=['-'], metavar='FILE',
           help='fits for samples without pose and shape: one for each set, - for none')
    for name, text in (('val', 'set to validate; default: the last 5 %% of the first set'),
                       ('init', 'weights of the backbone')):
        option(f'--{name}', type=Path, metavar='FILE', help=text)
    option('--body', type=Path, metavar='FILE|FOLDER', help='SMPL model or, for sets that tell the '
           'gender, folder of SMPL_NEUTRAL, _MALE and _FEMALE; default: a stand-in')
    option('--skip-unreadable', action='store_true', help='leave out images that cannot be read')
    option('--size', choices=tuple(RECIPES), default='small',
           help='ResNet-18 for rendered people, or the full ResNet-50')
    option('--kind', choices=('pare', 'mlp'), default='pare',
           help='part attention, or the plain ResNet and MLP')
    for name, kind, default, text in (
            ('epochs', bounded(int, 1), None, 'epochs; default depends on --size'),
            ('batch-size', bounded(int, 2), None, 'images a step; default depends on --size'),
            ('lr', bounded(float, 1e-9), None, 'peak learning rate; default depends on --size'),
            ('resolution', bounded(int, 32, 1025), None, 'side of the crop in pixels; default '
             'depends on --size'),
            ('people', bounded(int, 100), N_PEOPLE, 'people rendered for each epoch'),
            ('part-epochs', bounded(int, 0), None, 'how many first epochs have the loss of part '
             'labels, 0 for none; default: all'),
            ('seed', bounded(int, 0, 2 ** 31), 0, 'random seed'),
            ('workers', bounded(int, 0), None, 'processes that read photographs; default: as many '
             'as cores, at most 8')):
        option(f'--{name}', type=kind, default=default, metavar='N', help=text)
    add_device(parser, precision=True)
    option('--out', type=Path, default='pareModel', metavar='FILE', help='file for the weights')
    option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='for charts')
    option('--resume', action='store_true',
           help='continue the interrupted training of --out, with its own options; --epochs may '
           'be changed')
    return parser


def fill_in_defaults(args: argparse.Namespace) -> None:
    """Fill in the defaults of --size, and the precision, or raise ValueError."""
    for name in CHANGES:
        if getattr(args, name) is None:
            setattr(args, name, getattr(RECIPES[args.size], name))
    if args.resolution % 32:
        raise ValueError(f'--resolution: found {args.resolution}, expected a multiple of 32')
    if args.workers is None:
        args.workers = default_workers(args.train)
    for name, default in (('body', None), ('val', None), ('images', ['.']), ('fits', ['-'])):
        if not args.train and getattr(args, name) != default:
            raise ValueError(f'--{name}: found one without --train, expected none: people are '
                             f'rendered, with the stand-in body')
    keep_files(args)
    args.precision = pick_precision(args.precision, pick_device(args.device))


def keep_files(args: argparse.Namespace) -> None:
    """Raise ValueError if an output would replace an input."""
    inputs = {f'--train {name}': share_of(name)[0] for name in args.train or ()}
    inputs |= {f'--fits {name}': name for name in args.fits if name != '-'}
    outputs = {'--out': args.out, 'the state of --out': state_path(args.out)}
    outputs |= {f'--plots, {name}': args.plots / name for name in ('history.csv', 'history.png')}
    keep_inputs(inputs | {'--val': args.val, '--init': args.init} | files_of(args.body), outputs)


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Return the recipe of --size, changed by the options."""
    recipe = RECIPES[args.size]
    return replace(recipe, network=recipe.network | {'kind': args.kind},
                   **{name: getattr(args, name) for name in CHANGES})
