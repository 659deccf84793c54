"""Files of 2D detectors, each written by hand from the names that its format documents."""
import json

import numpy as np
import pytest

from common.detector import read_people
from common.skeleton import POINTS
from conftest import COCO, PERSON, person_of

SIDES = {'R': 'right ', 'L': 'left '}
HAND_MADE = np.array([PERSON.get(name.lower()) or PERSON[SIDES[name[0]] + name[1:].lower()]
                      for name in POINTS], dtype=float)
BODY_25 = """nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow,
left wrist, mid hip, right hip, right knee, right ankle, left hip, left knee, left ankle, right eye,
left eye, right ear, left ear, left big toe, left small toe, left heel, right big toe,
right small toe, right heel"""
MEDIAPIPE = """nose, left eye inner, left eye, left eye outer, right eye inner, right eye,
right eye outer, left ear, right ear, mouth left, mouth right, left shoulder, right shoulder,
left elbow, right elbow, left wrist, right wrist, left pinky, right pinky, left index, right index,
left thumb, right thumb, left hip, right hip, left knee, right knee, left ankle, right ankle,
left heel, right heel, left foot index, right foot index"""
FILES = {'coco.json': COCO, 'coco.npy': COCO, 'body.json': BODY_25, 'media.npy': MEDIAPIPE}


def write(path, people):
    """Write people (N, K, 3) in the format of the file's name."""
    if path.name == 'coco.json':
        people = [{'image_id': 1, 'keypoints': person.ravel().tolist(), 'score': .8}
                  for person in people]
    elif path.name == 'body.json':
        people = {'version': 1.3, 'people': [
            {'pose_keypoints_2d': person.ravel().tolist(), 'face_keypoints_2d': []}
            for person in people]}
    if path.suffix == '.json':
        path.write_text(json.dumps(people))
    else:
        np.save(path, np.insert(people, 2, 5, axis=2) if path.name == 'media.npy' else people)
    return path


@pytest.mark.parametrize('name', FILES)
def test_formats_of_detectors(tmp_path, name):
    path = write(tmp_path / name, np.stack([person_of(FILES[name])] * 2))
    points, kind = read_people(path)
    np.testing.assert_allclose(points, [np.insert(HAND_MADE, 2, .9, axis=1)] * 2, rtol=1e-6)
    assert kind.lower().startswith(name[:4])


@pytest.mark.parametrize('columns', (2, 3, 4))
def test_without_confidences_only_a_point_at_0_is_missing(tmp_path, columns):
    """MediaPipe's third column is a depth, its fourth the confidence; one person needs no N."""
    points = np.pad(person_of(MEDIAPIPE)[:, :2], ((0, 0), (0, columns - 2)), constant_values=.5)
    points[14, :2] = 0  # the right elbow
    np.save(tmp_path / 'a.npy', points)
    expected = np.full(15, .5 if columns == 4 else 1)
    expected[POINTS.index('RElbow')] = 0
    np.testing.assert_array_equal(read_people(tmp_path / 'a.npy')[0][0, :, 2], expected)


def test_the_nose_replaces_both_ears_if_one_is_hidden(tmp_path):
    person = person_of(COCO)
    person[4, 2] = .1
    np.save(tmp_path / 'a.npy', person)
    np.testing.assert_allclose(read_people(tmp_path / 'a.npy')[0][0, 1:3], [(960, 330, .9)] * 2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=f'{tmp_path / "a.json"}: '):
        read_people(tmp_path / 'a.json')


def test_points_below_zero_are_missing_and_percent_are_shares(tmp_path):
    person = person_of(COCO, confidence=85.)
    person[7, :2] = -1  # the left elbow
    np.save(tmp_path / 'a.npy', person)
    confidence = read_people(tmp_path / 'a.npy')[0][0, :, 2]
    np.testing.assert_allclose(confidence, .85 * (np.array(POINTS) != 'LElbow'))


@pytest.mark.parametrize('name, content, words', (
    ('a.json', '[1, 2', 'no readable file'),
    ('a.json', '[' * 100_000, 'no readable file'),
    ('a.json', '[]', 'no people'),
    ('a.json', '7', 'no people'),
    ('a.json', '{"people": []}', 'no people'),
    ('a.json', '[{"keypoints": [1, 2, 3]}]', '(1, 1, 3)'),
    ('a.json', json.dumps([{'keypoints': 51 * ['a']}]), 'keypoints'),
    ('a.json', json.dumps([{'keypoints': 51 * [float('nan')]}]), 'keypoints: found NaN'),
    ('a.json', json.dumps({'people': [{'pose_keypoints_2d': 54 * [3]}]}), '(1, 18, 3)'),
    ('a.npy', '', 'no readable file'),
    ('a.npy', np.zeros((1, 18, 2)), '(1, 18, 2)'),
    ('a.npy', np.zeros((0, 17, 2)), '(0, 17, 2)'),
    ('a.npy', np.full((1, 17, 2), np.nan), 'found NaN'),
    ('a.npy', np.array([{}]), 'no readable file'),
    ('a.npy', np.full((2, 17, 3), .5), 'at most 0.5, expected pixels')))
def test_files_that_hold_no_points_are_refused_in_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(ValueError) as error:
        read_people(path)
    assert str(error.value).startswith(f'{path}: ') and words in str(error.value)
    assert '\n' not in str(error.value)
