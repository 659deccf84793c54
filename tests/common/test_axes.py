"""Frames of files: signs, distances, people upside down and mirrored; pairs of mistakes."""
from itertools import combinations

import numpy as np
import pytest

from common.axes import check_root, wrong_distance, wrong_people
from common.camera import project
from common.people import sample
from common.skeleton import NORMAL, anatomy
from common.views import DOWN, TWO_VIEWS, prepare_views
from data import find_camera, load

PEOPLE = sample(400, seed=4)
JOINTS = PEOPLE['joint_3d']


def flipped(*signs):
    return JOINTS * np.float32(signs)


def test_people_are_upright_and_have_a_left_and_a_right(mocap):
    for joint_3d in (JOINTS, load(mocap / 'data_test.pkl')['joint_3d']):
        assert anatomy(joint_3d) == NORMAL
        assert anatomy(joint_3d * [-1, 1, 1]) == (True, False)
        assert anatomy(joint_3d * [1, -1, 1]) == (False, False)
        assert anatomy(joint_3d * [-1, -1, 1]) == (False, True)
        assert anatomy(joint_3d[:, ::-1]) is None and anatomy(joint_3d[:20]) is None


@pytest.mark.parametrize('signs, axes', (((1, 1, -1), 'z'), ((1, -1, -1), 'y and z'),
                                         ((-1, 1, -1), 'x and z')))
def test_what_the_message_says_about_a_frame_makes_it_right(signs, axes):
    with pytest.raises(ValueError, match=f'multiply {axes} by -1'):
        check_root(flipped(*signs))
    assert anatomy(flipped(*signs) * np.float32(signs)) == NORMAL


@pytest.mark.parametrize('signs', ((-1, 1, 1), (1, -1, 1), (-1, -1, 1)))
def test_people_in_a_mirror_or_upside_down_are_not_learnt_from(signs):
    with pytest.raises(ValueError, match='mirrored|upside down'):
        find_camera(PEOPLE | {'joint_3d': flipped(*signs)})


def test_an_image_in_a_mirror_is_read_as_such_if_the_people_tell():
    mirrored = PEOPLE | {'joint_2d_1': PEOPLE['joint_2d_1'] * np.float32([-1, 1])}
    assert (find_camera(mirrored)[0]['focal_len_1'] * [-1, 1] > 0).all()
    unknown = {key: array[:, ::-1] if key.startswith('joint') else array
               for key, array in mirrored.items()}
    with pytest.raises(ValueError, match='x mirrored'):
        find_camera(unknown)
    assert wrong_people(JOINTS[:, ::-1], (1, -1)) == ''  # only y points down


@pytest.mark.parametrize('weak', (False, True))
@pytest.mark.parametrize('change', ('left first', 'lying', 'hand-standing'))
def test_what_image_and_joints_agree_on_is_learnt_from(weak, change):
    """An order that begins with the left, people of a camera on its side or upside down."""
    people = {key: PEOPLE[key] for key in (*TWO_VIEWS, 'joint_3d')}
    if change == 'left first':
        order = [3, 4, 5, 0, 1, 2, 6, 7, 8, 12, 13, 14, 9, 10, 11]
        people |= {key: people[key][:, order] for key in people if key.startswith('joint')}
    else:
        turn = np.float32([[0, -1], [1, 0]] if change == 'lying' else [[-1, 0], [0, -1]])
        people['joint_3d'] = np.concatenate([people['joint_3d'][..., :2] @ turn.T,
                                             people['joint_3d'][..., 2:]], axis=-1)
        people['joint_2d_1'] = project(people['joint_3d'], people['focal_len_1'])
        about = np.eye(3, dtype='f')
        about[:2, :2] = turn
        people['rot'] = (people['rot'].reshape(-1, 3, 3) @ about.T).reshape(-1, 9)
    kept, summary = find_camera(prepare_views(people)[0] if weak else people)
    assert 'left out' not in summary and (kept['focal_len_1'] > 0).all()


@pytest.mark.parametrize('weak', (False, True))
def test_one_sample_in_another_unit_is_left_out_by_its_row(weak):
    wrong = {key: array.copy() for key, array in PEOPLE.items()}
    wrong['transl' if weak else 'joint_3d'][7] *= 1000
    assert wrong_distance(wrong['joint_3d']).sum() == 1 - weak
    kept, summary = find_camera(prepare_views(wrong)[0] if weak else wrong)
    assert 'rows 7' in summary and len(PEOPLE['rot']) - len(kept['rot']) in (1, 2)
    wrong['joint_3d'][:40] *= 1000
    if not weak:
        with pytest.raises(ValueError, match='40 of 400 .* row 0'):
            find_camera(wrong)


def transposed(rot, transl):
    return rot.mT, transl


def negative(rot, transl):
    return rot, -transl


def of_opencv(rot, transl):
    return DOWN[:, None] * rot * DOWN, transl * DOWN


def inverse(rot, transl):
    return rot.mT, -np.vecmat(transl, rot)


def inverse_transl(rot, transl):
    return rot, -np.vecmat(transl, rot)


@pytest.mark.parametrize('mistakes', [
    *combinations((transposed, negative, of_opencv, inverse, inverse_transl), 2)])
def test_pairs_of_mistakes_about_two_views_are_refused_with_what_would_fit(mistakes):
    rot, transl = PEOPLE['rot'].reshape(-1, 3, 3), PEOPLE['transl']
    for mistake in mistakes:
        rot, transl = mistake(rot, transl)
    views = PEOPLE | {'rot': rot.reshape(-1, 9), 'transl': transl}
    with pytest.raises(ValueError, match='keys rot, transl: .* would meet within'):
        prepare_views(views)
