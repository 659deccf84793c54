"""Two views: their signs and unit are found, and views that do not fit are refused."""
import re

import numpy as np
import pytest

from common.camera import ray_angle
from common.people import sample
from common.views import prepare_views

VIEWS = sample(400, seed=4)
ANGLE = ray_angle(VIEWS)


def noisy(views, noise):
    rng = np.random.default_rng(0)
    return views | {key: (views[key] + rng.normal(0, noise, views[key].shape)).astype('f')
                    for key in ('joint_2d_1', 'joint_2d_2')}


@pytest.mark.parametrize('noise', (0, .01))
@pytest.mark.parametrize('sign', ((1, 1), (1, -1), (-1, 1), (-1, -1)))
def test_views_of_each_sign_are_prepared_without_3d(sign, noise):
    views = noisy(VIEWS, noise)
    views |= {key: views[key] * np.float32(sign) for key in ('joint_2d_1', 'joint_2d_2')}
    views['joint_3d'] = np.full_like(views['joint_3d'], np.nan)  # never read
    views, summary = prepare_views(views)
    assert 'signs {:+} {:+}'.format(*sign) in summary
    assert len(views['rot']) > .97 * (ANGLE > 20).sum() and (ANGLE > 20).mean() > .7
    wide = ANGLE[views['row']] > 20
    off = np.abs(views['triangulated'] - VIEWS['joint_3d'][views['row']])[wide]
    assert off.max() < 1e-5 or noise and np.median(off) < .02


def test_samples_without_depth_are_dropped_and_counted():
    views = {key: array[ANGLE > 5] for key, array in VIEWS.items()}
    views['joint_2d_2'][7] = views['joint_2d_1'][7]
    views['rot'][7], views['transl'][7] = np.eye(3).ravel(), 0
    kept, summary = prepare_views(views)
    assert re.search(r'\b1 sample', summary)
    np.testing.assert_array_equal(kept['row'], np.delete(np.arange(len(views['rot'])), 7))


def test_the_unit_of_transl_is_found():
    views, summary = prepare_views(VIEWS | {'transl': 4200 * VIEWS['transl']})
    unit = float(summary.partition('its unit, ')[2].split(';')[0])
    assert unit == pytest.approx(4200, rel=.02)
    error = np.linalg.norm(views['triangulated'] - views['joint_3d'], axis=-1)
    assert np.median(error) < .01


ROT, TRANSL = VIEWS['rot'].reshape(-1, 3, 3), VIEWS['transl']
DOWN = np.diag(np.float32([1, -1, -1]))
BACK = -np.vecmat(TRANSL, ROT)  # from view 2 to view 1


@pytest.mark.parametrize('rot, transl, reading', (
    (ROT.mT, TRANSL, 'rot transposed'), (ROT, -TRANSL, 'transl negated'),
    (DOWN @ ROT @ DOWN, TRANSL @ DOWN, 'OpenCV.*'),
    (ROT.mT, BACK, 'rot and transl from view 2 to view 1'),
    (ROT, BACK, 'transl from view 2 to view 1'), (ROT.mT, -TRANSL, 'with .* and .*')))
def test_another_meaning_of_rot_and_transl_is_refused_and_named(rot, transl, reading):
    with pytest.raises(ValueError, match=f'keys rot, transl: .*{reading} rays would meet within'):
        prepare_views(VIEWS | {'rot': rot.reshape(-1, 9), 'transl': transl})


ALIKE = {'joint_2d_2': VIEWS['joint_2d_1'], 'focal_len_2': VIEWS['focal_len_1'],
         'rot': np.tile(np.eye(3, dtype='f').ravel(), (400, 1)), 'transl': 0 * TRANSL}


@pytest.mark.parametrize('change, words', (
    (ALIKE, 'give no depth'), (noisy(VIEWS | ALIKE, .005), 'give no depth'),
    ({'transl': 0 * TRANSL}, 'keys rot, transl'),
    ({'rot': np.roll(VIEWS['rot'], 50, axis=0)}, r'keys rot, transl: .*= R V1 \+ t$'),
    ({'transl': TRANSL * np.linspace(3, 6, 400)[:, None]}, 'key transl: ')))
def test_views_that_do_not_belong_together_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        prepare_views(VIEWS | change)
