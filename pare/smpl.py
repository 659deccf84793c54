"""SMPL models: their files, those of joint regressors beside them, and which body a network knows.
"""
from pathlib import Path

import numpy as np
import torch

from pare.body import EXTRA, FACE, GENDERS, H36M, N_BETAS, PARENTS, Skeleton
from pare.formats import checked, read_npy, read_npz, read_pickle
from pare.spin import FEET
from pare.standin import make_body

FILES = {'neutral': 'SMPL_NEUTRAL', 'm': 'SMPL_MALE', 'f': 'SMPL_FEMALE'}
SHAPES = {'v_template': ('V', 3), 'shapedirs': ('V', 3, 'B'), 'posedirs': ('V', 3, 207),
          'J_regressor': (24, 'V'), 'weights': ('V', 24), 'kintree_table': (2, 24), 'f': ('F', 3)}
REGRESSORS = {'J_regressor_h36m': len(H36M), 'J_regressor_extra': len(EXTRA)}
VERTICES = {'face': FACE, 'feet': FEET}                       # indices in SMPL
OTHERS = {10475: 'SMPL-X', 778: 'MANO', 5023: 'FLAME'}        # models by number of vertices
N_STAND_IN = 1728
STAND_IN = ('note: --body names no SMPL model, so a stand-in takes its place, although the poses '
            'and betas of photographs are those of SMPL')


def load_bodies(path: Path | None, genders=GENDERS) -> dict[str, dict]:
    """Load bodies by gender from a folder, or neutral alone from a file; default: the stand-in.

    The regressors of the neutral body serve all, as in SPIN.
    """
    if path is None:
        return {'neutral': make_body()}
    if not path.is_dir():
        return {'neutral': load_body(path)}
    bodies = {}
    for gender in genders:
        files = [path / f'{FILES[gender]}{suffix}' for suffix in ('.npz', '.pkl')]
        found = [file for file in files if file.exists()]
        if not found:
            raise ValueError(f'{path}: found neither {files[0].name} nor {files[1].name}')
        bodies[gender] = load_body(found[0])
    shared = {key: array for key, array in bodies['neutral'].items() if key in REGRESSORS}
    return {gender: {key: array for key, array in body.items() if key not in REGRESSORS} | shared
            for gender, body in bodies.items()}


def skeletons(bodies: dict, device: torch.device) -> dict[str, Skeleton]:
    """Return the skeletons of bodies by gender."""
    return {gender: Skeleton(arrays).to(device) for gender, arrays in bodies.items()}


def files_of(path: Path | None) -> dict[str, Path]:
    """Return the files that `load_bodies` may read, by a name for `keep_inputs`."""
    if path is None:
        return {}
    models = [path]
    if path.is_dir():
        models = [path / f'{name}{suffix}' for name in FILES.values()
                  for suffix in ('.npz', '.pkl')]
    regressors = [file for key in REGRESSORS if (file := find_regressor(models[0], key))]
    return {f'--body {file.name}': file for file in (*models, *regressors)}


def load_body(path) -> dict[str, np.ndarray]:
    """Read and check an SMPL model, .pkl or .npz: the arrays of SHAPES as float32 and int64.

    Also reads the files of regressors, see `find_regressor`. A body of SMPL's 6,890 vertices gets
    `face` and `feet`, the vertices of FACE and FEET. Raises OSError or ValueError.
    """
    path = Path(path)
    raw = (read_npz(path, (*SHAPES, *REGRESSORS, *VERTICES)) if path.suffix == '.npz' else
           read_pickle(path))
    body, sizes = {}, {}
    for key, shape in SHAPES.items():
        if raw.get(key) is None:
            raise ValueError(f'{path}: key {key} is missing, expected {", ".join(SHAPES)}')
        refuse_other_models(path, sizes.get('V'), raw.get('kintree_table'))
        wanted = tuple(sizes.get(n) if isinstance(n, str) else n for n in shape)
        body[key] = checked(f'{path}: key {key}', raw[key], wanted,
                            np.int64 if key in ('kintree_table', 'f') else np.float32)
        sizes |= dict(zip(shape, body[key].shape))
    if sizes['B'] < N_BETAS or not np.array_equal(body['kintree_table'][0][1:], PARENTS[1:]):
        raise ValueError(f'{path}: found {sizes["B"]} betas or another joint tree, expected '
                         f'at least {N_BETAS} betas and the joint tree of SMPL')
    body['shapedirs'] = body['shapedirs'][..., :N_BETAS]
    for key, vertices in VERTICES.items():
        rows = raw.get(key, tuple(vertices.values()) if sizes['V'] == 6890 else None)
        if rows is not None:
            body[key] = checked(f'{path}: key {key}', rows, (len(vertices),), np.int64)
    for key in body.keys() & {'f', *VERTICES}:
        if not (0 <= body[key].min() and body[key].max() < sizes['V']):
            raise ValueError(f'{path}: key {key}: found vertices {body[key].min()} to '
                             f'{body[key].max()}, expected 0 to {sizes["V"] - 1}')
    for key, rows in REGRESSORS.items():
        file = find_regressor(path, key)
        if raw.get(key) is not None:
            body[key] = checked(f'{path}: key {key}', raw[key], (rows, sizes['V']))
        elif file:
            body[key] = checked(file, read_npy(file), (rows, sizes['V']))
    if 'J_regressor_h36m' in body and (body['J_regressor_h36m'][1] @ body['v_template'])[0] < 0:
        body['J_regressor_h36m'] = body['J_regressor_h36m'][  # a file with the right leg first
            [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    return body


def refuse_other_models(path, n_vertices: int | None, tree) -> None:
    """Raise ValueError for SMPL-X, SMPL-H and other models than SMPL."""
    other = 'SMPL-H' if np.shape(tree)[-1:] == (52,) else OTHERS.get(n_vertices)
    if other:
        raise ValueError(f'{path}: found a model of {other}, expected SMPL of 6,890 vertices and '
                         f'24 joints, such as SMPL_NEUTRAL.pkl')


def find_regressor(path: Path, key: str) -> Path | None:
    """Find the file of a regressor beside a body or in the two folders above it.

    Its name begins with the key, as J_regressor_h36m_correct.npy does; the shortest is taken.
    """
    for folder in path.absolute().parents[:3]:
        files = sorted(folder.glob(f'{key}*.npy'), key=lambda file: (len(file.name), file.name))
        if files:
            return files[0]
    return None


def compare_body(path, options: dict, bodies: dict, given: bool) -> None:
    """Compare the numbers of vertices of the body that a network has learnt and of the one in use.

    If they differ, raises ValueError if no body was `given`, and prints a warning if one was.
    """
    found = len(bodies['neutral']['v_template'])
    learnt = options.get('vertices', N_STAND_IN if options['rendered'] else found)
    if learnt == found:
        return
    text = f'{path}: found weights trained with a body of {learnt:,} vertices'
    if not given:
        raise ValueError(f'{text}, expected that body with --body, not the stand-in')
    print(f'warning: {text}, but --body has {found:,}: the same pose and betas look different')
