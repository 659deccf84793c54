"""Small files as a user has them, in the true keys and types, and what they are made of."""
import pickle
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pare.body import FACE, Skeleton, axis_angle_to_matrix, fit_camera
from pare.people import rendered_samples
from pare.spin import FEET
from pare.standin import make_body

ARRAYS = {key: array.astype(np.int64 if array.dtype.kind in 'ui' else np.float32)
          for key, array in make_body().items()}
SKELETON, EYE, CPU = Skeleton(ARRAYS), torch.eye(3).expand(1, 24, 3, 3), torch.device('cpu')
TINY = ('--people', '100', '--epochs', '2', '--batch-size', '32', '--resolution', '32', '--device',
        'cpu', '--precision', 'float32')


def random_pose(n, seed=0, angle=.6):
    torch.manual_seed(seed)
    return torch.randn(n, 10), axis_angle_to_matrix(angle * torch.randn(n, 24, 3))


def bare(*more) -> dict:
    """A body without the files of regressors, and without more."""
    return {key: array for key, array in ARRAYS.items()
            if 'J_regressor_' not in key and key not in more}


def sized(size: float, arrays=ARRAYS) -> dict:
    """A body so many times as large."""
    return arrays | {'v_template': np.float32(size * arrays['v_template'])}


def rendered_batch(n: int, size: int = 64, seed: int = 5) -> dict:
    """Rendered people as a batch."""
    return default_collate(rendered_samples(n, size, seed)[0])


def truth_of(batch, **changes) -> dict:
    """What a perfect network finds: the true bodies, and cameras that see their keypoints."""
    places, sure = batch['keypoints'].split((2, 1), dim=2)
    points = SKELETON(batch['betas'], batch['rotations']).keypoints
    return {'betas': batch['betas'], 'rotations': batch['rotations'],
            'camera': fit_camera(points, places, sure[..., 0])} | changes


def pictures_in(folder) -> set[str]:
    """The names of the PNGs in a folder; each must show something."""
    for path in folder.glob('*.png'):
        pixels = np.asarray(Image.open(path).convert('RGB')).astype(float)
        assert min(pixels.shape[:2]) > 200 and pixels.std() > 5, path
    return {path.name for path in folder.glob('*.png')}


def says(message: str, words: str) -> None:
    """The message must be one short line that has these words."""
    assert '\n' not in message.rstrip() and len(message) < 700
    assert not [word for word in words.split() if word not in message], message


@contextmanager
def refused(words: str):
    """The block must raise a ValueError of one short line, see says."""
    with pytest.raises(ValueError) as error:
        yield
    says(str(error.value), words)


# ---- files of the field -------------------------------------------------------------------------

class Ch:
    """Pickled as chumpy pickles its arrays."""

    def __init__(self, **state):
        self.__dict__.update(state)


Select, csc_matrix = (type(name, (Ch,), {}) for name in ('Select', 'csc_matrix'))
CLASSES = {Ch: 'chumpy.ch', Select: 'chumpy.reordering', csc_matrix: 'scipy.sparse.csc'}


def pickle_as_field(path, value, protocol=2):
    """Pickles a value with the classes above under their true names."""
    names = {*CLASSES.values(), 'chumpy', 'scipy', 'scipy.sparse'}
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, type(sys)(name))
        for kind, module in CLASSES.items():
            kind.__module__ = module
            setattr(sys.modules[module], kind.__name__, kind)
        path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def grown() -> dict:
    """The stand-in with SMPL's 6,890 vertices; those that are added move no joint."""
    copies = {key: np.resize(ARRAYS[key], (6890, *ARRAYS[key].shape[1:]))
              for key in ('v_template', 'shapedirs', 'posedirs', 'weights')}
    padded = {key: np.pad(ARRAYS[key], ((0, 0), (0, 6890 - 1728)))
              for key in ('J_regressor', 'J_regressor_h36m', 'J_regressor_extra')}
    return ARRAYS | copies | padded | {'face': np.array([*FACE.values()]),
                                       'feet': np.array([*FEET.values()])}


def smpl_parts(arrays=ARRAYS) -> dict:
    """The keys of an SMPL model as its files hold them, of the stand-in's numbers."""
    regressor, n = arrays['J_regressor'], len(arrays['v_template'])
    columns, rows = np.nonzero(regressor.T)
    shapes = np.concatenate([arrays['shapedirs'], np.ones((n, 3, 2), np.float32)], axis=2)
    template = Ch(x=arrays['v_template'].astype(float), _dirty_vars=set(), dirty={1})
    return {key: arrays[key] for key in ('posedirs', 'weights')} | {
        'v_template': template, 'bs_style': 'lbs', 'bs_type': 'lrotmin',
        'shapedirs': Select(a=Ch(x=shapes), idxs=np.arange(shapes.size),
                            preferred_shape=shapes.shape),
        'J_regressor': csc_matrix(_shape=regressor.shape, data=regressor[rows, columns],
                                  indices=rows, format='csc',
                                  indptr=np.searchsorted(columns, np.arange(n + 1))),
        'f': arrays['f'].astype(np.uint32),
        'kintree_table': arrays['kintree_table'].astype(np.uint32)}


def smpl_pickle(path, protocol=2, **changes):
    return pickle_as_field(path, smpl_parts() | changes, protocol)


def annotations(folder, **changes):
    """Three photographs with the keys of SPIN, the pose of one known to be wrong."""
    rng, n = np.random.default_rng(0), 3
    (folder / 'images').mkdir(exist_ok=True)
    names = [f'images/{number}.jpg' for number in range(n)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(folder / name)
    pose = np.float32(rng.normal(0, .2, (n, 72)))
    pose[:, :3] += (np.pi, 0, 0)
    points = SKELETON(torch.zeros(n, 10), axis_angle_to_matrix(
        torch.from_numpy(pose).view(n, 24, 3))).keypoints
    part = np.concatenate([40 * points[..., :2].numpy() + (60, 45), np.ones((n, 24, 1))], axis=2)
    found = {'imgname': np.array(names), 'center': np.tile([60., 45], (n, 1)),
             'scale': np.full(n, .4), 'part': part, 'pose': pose,
             'shape': np.zeros((n, 10), np.float32), 'has_smpl': np.array([1, 1, 0])} | changes
    np.savez(folder / 'set.npz', **{key: array for key, array in found.items()
                                    if array is not None})
    return folder / 'set.npz'


def sequence() -> dict:
    """A sequence of 3DPW: two people in four frames, of which the second person is seen in one."""
    rng, n = np.random.default_rng(0), 4
    turn = axis_angle_to_matrix(torch.tensor([.3, -.2, .1], dtype=torch.double)).numpy()
    cameras = np.tile(np.eye(4), (n, 1, 1))
    cameras[:, :3, :3], cameras[:, :3, 3] = turn, (0, 0, 4)
    points = np.zeros((2, n, 3, 18))
    points[0, :, :, 3], points[0, :, :, 4] = (10, 20, .9), (30, 60, .8)
    points[0, 2] = 0
    points[1, 3, :, 0], points[1, 3, :, 1], points[1, 1, :, 0] = (5, 6, 1), (9, 16, 1), (5, 6, 1)
    return {'sequence': 'walk_00', 'genders': ['f', 'm'], 'betas': [np.arange(12.), np.ones(10)],
            'poses': list(rng.normal(0, .3, (2, n, 72))), 'trans': list(np.zeros((2, n, 3))),
            'poses2d': list(points), 'campose_valid': [np.array([1, 0, 1, 1]), np.ones(n, int)],
            'cam_poses': cameras, 'cam_intrinsics': np.eye(3), 'img_frame_ids': np.arange(7, 7 + n),
            'texture_maps': [], 'v_template_clothed': [np.zeros((5, 3))] * 2}
