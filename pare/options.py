"""The command line of a training: its settings, and how --resume takes them from a state."""
import argparse
import os
from pathlib import Path

from model import pick_device, pick_precision
from training import bounded, form, load_state, state_path

DEFAULTS = {'small': {'resolution': 64, 'epochs': 3, 'lr': 2e-3, 'batch_size': 64},
            'full': {'resolution': 224, 'epochs': 120, 'lr': 3e-4, 'batch_size': 64}}
N_PEOPLE = 10_000                    # rendered for an epoch
COLUMNS = ('epoch', 'loss', 'keypoints', 'points_3d', 'pose', 'betas', 'camera', 'parts', 'places',
           'skeletons', 'val_mpjpe', 'val_pa_mpjpe', 'val_pixels', 'images_per_s')  # of a history
RANK, N_RANKS = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m pare.training', description='Trains a regressor of the SMPL body.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='example: python -m pare.training --size full --body SMPL_NEUTRAL.pkl '
               '--images /data --train 3dpw_train.npz:0.6 mpii_train.npz:0.4')
    parser.error = lambda message: parser.exit(2, f'pare.training: {message}\n')
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
    option('--average', action='store_true', help='keep averaged weights')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    option('--precision', choices=('auto', 'float32', 'bfloat16'), default='auto',
           help='of products; auto: bfloat16 if the device multiplies in it')
    option('--out', type=Path, default='pareModel', metavar='FILE', help='file for the weights')
    option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='for charts')
    option('--resume', action='store_true',
           help='go on with the unfinished training of --out, by its own options')
    return parser


def parse(parser: argparse.ArgumentParser, argv: list) -> tuple[argparse.Namespace, dict | None]:
    """The options, and with --resume the state from which those of the training are taken.

    Raises ValueError for a state that is not there, and for options that do not fit.
    """
    args, state = parser.parse_args(argv), None
    path = state_path(args.out)
    if args.out.is_dir():
        raise ValueError(f'--out: found the folder {args.out}, expected a file')
    if args.resume:
        state = load_training(path)
        beside = [f'--{name}={getattr(args, name)}' for name in ('out', 'plots', 'device')]
        args = parser.parse_args([*state['options'], *argv, *beside])
    elif path.exists() and RANK == 0:
        print(f'note: {path} of an unfinished training will be replaced; --resume goes on')
    args.precision = pick_precision(args.precision, pick_device(args.device))
    for name, value in DEFAULTS[args.size].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if state and learnt_by(args) != state['options']:
        raise ValueError(f'--resume: found options that are not those of {path}, expected '
                         f'{" ".join(state["options"])}')
    for name, divisor in (('resolution', 32), ('batch_size', N_RANKS)):
        if getattr(args, name) % divisor:
            raise ValueError(f'--{name.replace("_", "-")}: found {getattr(args, name)}, expected a '
                             f'multiple of {divisor}')
    if (args.body or args.body_dir) and not args.train:
        raise ValueError('--body: found one without --train, expected none: rendered people are of '
                         'the stand-in')
    return args, state


def load_training(path: Path) -> dict:
    """A state of this training: parts, epoch, history and options. Raises ValueError for another
    or a damaged one."""
    state = load_state(path)
    found = [state.get(key) for key in ('epoch', 'history', 'options')]
    row = [1] + [.5] * (len(COLUMNS) - 1)
    n_epochs, n_words = (len(value) if isinstance(value, list) else 0 for value in found[1:])
    if form(found) != form([n_epochs, n_epochs * [row], n_words * ['']]) or found[0] != n_epochs:
        raise ValueError(f'{path}: found a damaged state, or that of another training, expected '
                         f'what --resume needs; start anew without it')
    return state


def learnt_by(args: argparse.Namespace) -> list[str]:
    """The options that decide what is learnt, as on a command line."""
    words, beside = [], ('out', 'plots', 'device', 'resume', 'workers')
    for name, value in sorted(vars(args).items()):
        if value is not None and value is not False and name not in beside:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f'--{name.replace("_", "-")}', *map(str, values)]
    return words
