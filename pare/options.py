"""The command line of a training."""
import argparse
import os
from pathlib import Path

from model import pick_device, pick_precision
from training import Parser, bounded

DEFAULTS = {'small': {'resolution': 64, 'epochs': 3, 'lr': 2e-3, 'batch_size': 64},
            'full': {'resolution': 224, 'epochs': 120, 'lr': 3e-4, 'batch_size': 64}}
N_PEOPLE = 10_000                    # rendered for an epoch
COLUMNS = ('epoch', 'loss', 'keypoints', 'points_3d', 'pose', 'betas', 'camera', 'parts', 'places',
           'skeletons', 'val_mpjpe', 'val_pa_mpjpe', 'val_pixels', 'images_per_s')  # of a history
RANK, N_RANKS = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))


def make_parser() -> Parser:
    parser = Parser(
        prog='python -m pare.training', description='Trains a regressor of the SMPL body.',
        epilog='example: python -m pare.training --size full --body SMPL_NEUTRAL.pkl '
               '--images /data --train 3dpw_train.npz:0.6 mpii_train.npz:0.4')
    option = parser.add_argument
    option('--train', nargs='+', metavar='FILE[:SHARE]', help='sets of photographs, .npz, and '
           'their shares of a batch; else people are rendered')
    option('--images', nargs='+', default=['.'], metavar='FOLDER',
           help='where imgname begins: one for all sets, or one each, that of --val last')
    option('--fits', nargs='+', default=['-'], metavar='FILE',
           help='pose and shape for samples without: one for each set, - for none')
    for name, text in (('val', 'else the last 5 %% of the first set'),
                       ('init', 'weights of the backbone')):
        option(f'--{name}', type=Path, metavar='FILE', help=text)
    body = parser.add_mutually_exclusive_group().add_argument
    body('--body', type=Path, metavar='FILE', help='SMPL model, with --train; else a stand-in')
    body('--body-dir', type=Path, metavar='FOLDER',
         help='SMPL_NEUTRAL, _MALE and _FEMALE, for sets that tell the gender')
    option('--skip-unreadable', action='store_true', help='leave out images that cannot be read')
    option('--size', choices=tuple(DEFAULTS), default='small',
           help='ResNet-18 for rendered people, or the full ResNet-50')
    for name, kind, default, text in (
            ('epochs', bounded(int, 1), None, 'passes; else as --size wants'),
            ('batch-size', bounded(int, 2), None, 'images a step; else as --size wants'),
            ('lr', bounded(float, 1e-9), None, 'highest learning rate; else as --size wants'),
            ('resolution', bounded(int, 32, 1025), None, 'of a side; else as --size wants'),
            ('people', bounded(int, 100), N_PEOPLE, 'rendered for each epoch'),
            ('part-epochs', bounded(int, 1), None, 'with the loss of part labels; else all'),
            ('seed', bounded(int, 0, 2 ** 31), 0, 'of weights, people, order and augmentation'),
            ('workers', bounded(int, 0), 0, 'processes that read photographs')):
        option(f'--{name}', type=kind, default=default, metavar='N', help=text)
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    option('--precision', choices=('auto', 'float32', 'bfloat16'), default='auto',
           help='of products; auto: bfloat16 if the device multiplies in it')
    option('--out', type=Path, default='pareModel', metavar='FILE', help='file for the weights')
    option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='for charts')
    option('--resume', action='store_true',
           help='go on with the unfinished training of --out, by its own options')
    return parser


def settle(args: argparse.Namespace) -> None:
    """Puts in what --size wants, and the precision. Raises ValueError for options that do not
    fit."""
    for name, value in DEFAULTS[args.size].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name, divisor in (('resolution', 32), ('batch_size', N_RANKS)):
        if getattr(args, name) % divisor:
            raise ValueError(f'--{name.replace("_", "-")}: found {getattr(args, name)}, expected a '
                             f'multiple of {divisor}')
    if (args.body or args.body_dir) and not args.train:
        raise ValueError('--body: found one without --train, expected none: rendered people are of '
                         'the stand-in')
    args.precision = pick_precision(args.precision, pick_device(args.device))
