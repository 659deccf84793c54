"""Files of detectors in their true forms, by hand; what is missing; what is none of them."""
import json

import numpy as np
import pytest

from common.detector import read_people
from common.skeleton import POINTS
from conftest import COCO, PERSON, person_of

SHORT = {'R': 'right ', 'L': 'left '}
HAND_MADE = np.array([(*(PERSON.get(name.lower()) or PERSON[SHORT[name[0]] + name[1:].lower()]), .9)
                      for name in POINTS], dtype=float)
BODY_25 = """nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow,
left wrist, mid hip, right hip, right knee, right ankle, left hip, left knee, left ankle, right eye,
left eye, right ear, left ear, left big toe, left small toe, left heel, right big toe,
right small toe, right heel"""
BODY_18 = BODY_25.partition(', left big')[0].replace('mid hip, ', '')
MEDIAPIPE = """nose, left eye inner, left eye, left eye outer, right eye inner, right eye,
right eye outer, left ear, right ear, mouth left, mouth right, left shoulder, right shoulder,
left elbow, right elbow, left wrist, right wrist, left pinky, right pinky, left index, right index,
left thumb, right thumb, left hip, right hip, left knee, right knee, left ankle, right ankle,
left heel, right heel, left foot index, right foot index"""


def flat(person):
    return person.ravel().tolist()


def openpose(person, **more):
    return {'pose_keypoints_2d': flat(person), 'face_keypoints_2d': [], **more}


def mmpose(person, **more):
    return {'keypoints': person[:, :2].tolist(), 'keypoint_scores': person[:, 2].tolist(),
            'bbox': [[850, 280, 1070, 960]], 'bbox_score': .9, **more}


def ultralytics(person, **more):
    x, y, visible = person.T.tolist()
    return {'name': 'person', 'class': 0, 'confidence': .9, 'box': {'x1': 850.},
            'keypoints': {'x': x, 'y': y, 'visible': visible}, **more}


COCO_17, OPENPOSE_25, OPENPOSE_18 = person_of(COCO), person_of(BODY_25), person_of(BODY_18)
HALPE, WHOLEBODY, HALPE_136 = (np.vstack([COCO_17, np.tile((7, 7, .9), (n - 17, 1))])
                               for n in (26, 133, 136))
MEDIA = np.insert(person_of(MEDIAPIPE), 2, 5, axis=1)  # x, y, z, visibility
LABELLED = COCO_17 * [1, 1, 0] + [0, 0, .9]
JSON = {  # content, frame, id
    'COCO': ([{'image_id': 7, 'category_id': 1, 'keypoints': flat(COCO_17)}], 7, None),
    'COCO annotations': ({'images': [], 'annotations': [  # some are of objects alone
        {'image_id': 6, 'bbox': [1, 2]}, {'image_id': 7, 'keypoints': flat(LABELLED)}]}, 7, None),
    'OpenPose': ({'version': 1.3, 'people': [openpose(OPENPOSE_25, person_id=[-1])]}, 0, None),
    'OpenPose tracked': ({'people': [openpose(OPENPOSE_25, person_id=[2])]}, 0, 2),
    'OpenPose 18': ({'people': [{'pose_keypoints': flat(OPENPOSE_18)}]}, 0, None),
    'AlphaPose': ([{'image_id': '7.jpg', 'keypoints': flat(COCO_17), 'idx': [[4]]}], '7.jpg', 4),
    'Halpe': ([{'image_id': '7.jpg', 'keypoints': flat(HALPE)}], '7.jpg', None),
    'Halpe 136': ([{'image_id': '7.jpg', 'keypoints': flat(HALPE_136)}], '7.jpg', None),
    'WholeBody': ([mmpose(WHOLEBODY)], 0, None), 'MMPose': ([[mmpose(COCO_17)]], 0, None),
    'MMPose predictions': ({'predictions': [[mmpose(COCO_17)]]}, 0, None),
    'MMPose video': ({'meta_info': {}, 'instance_info': [
        {'frame_id': 7, 'instances': [mmpose(COCO_17, track_id=3)]}]}, 7, 3),
    'ViTPose': ([{'keypoints': COCO_17[:, :2].tolist(), 'scores': [.9] * 17}], 0, None),
    'Ultralytics': ([ultralytics(COCO_17, track_id=5)], 0, 5)}
ARRAYS = {  # content, number of people
    'COCO': (COCO_17, 1), 'BODY_25': (np.stack([OPENPOSE_25] * 3), 3), 'Halpe': (HALPE, 1),
    'MediaPipe': (MEDIA, 1), 'MediaPipe, confidence third': (np.delete(MEDIA, 2, axis=1)[None], 1),
    'MediaPipe, flat rows': (np.stack([MEDIA.ravel()] * 4), 4),
    'MediaPipe, an axis for one person': (MEDIA[None, None], 1),
    'COCO, flat, one person': (COCO_17.ravel(), 1),
    'COCO, in percent': (COCO_17 * [1, 1, 100], 1)}


@pytest.mark.parametrize('name', JSON)
def test_forms_of_json(tmp_path, name):
    content, frame, number = JSON[name]
    (tmp_path / 'A.JSON').write_text(json.dumps(content))
    people = read_people(tmp_path / 'A.JSON')
    np.testing.assert_allclose(people.points, [HAND_MADE])
    assert (people.frames, people.ids) == ([frame], [number])


def test_a_list_in_a_list_is_a_frame(tmp_path):
    frames = [[mmpose(COCO_17, track_id=1), mmpose(COCO_17, track_id=2)], [mmpose(COCO_17)]]
    (tmp_path / 'a.json').write_text(json.dumps(frames))
    people = read_people(tmp_path / 'a.json')
    assert (people.frames, people.ids) == ([0, 0, 1], [1, 2, None])


@pytest.mark.parametrize('name', ARRAYS)
def test_arrays_of_people_or_of_one(tmp_path, name):
    array, n_people = ARRAYS[name]
    np.save(tmp_path / 'a.npy', array)
    people = read_people(tmp_path / 'a.npy')
    np.testing.assert_allclose(people.points, [HAND_MADE] * n_people)
    assert people.kind == name.split(',')[0] and people.frames == list(range(n_people))


@pytest.mark.parametrize('array', (COCO_17[:, :2], MEDIA[:, :3]))
def test_without_confidences_all_points_count_as_1(tmp_path, array):
    np.save(tmp_path / 'a.npy', array)
    assert (read_people(tmp_path / 'a.npy').points[..., 2] == 1).all()


def test_frames_are_in_the_order_of_their_numbers_and_one_may_be_empty(tmp_path):
    for frame, people in ((10, 2 * [OPENPOSE_25]), (2, []), (1, [OPENPOSE_25])):
        (tmp_path / f'img_{frame}_keypoints.json').write_text(json.dumps({
            'people': [*map(openpose, people)]}))
    people = read_people(tmp_path)
    assert people.frames == [1, 2, 10, 10]
    assert people.points[..., 2].any(axis=1).tolist() == [True, False, True, True]


@pytest.mark.parametrize('missing', ((0, 0, .9), (-1, -1, 1), (np.nan, np.nan, .9), (5, 5, .01)))
def test_a_missing_point_is_not_certain(tmp_path, missing):
    person = COCO_17.copy()
    person[7] = missing  # the left elbow
    np.save(tmp_path / 'a.npy', person)
    text = json.dumps([{'keypoints': flat(person)}]).replace('NaN', 'null')
    (tmp_path / 'a.json').write_text(text)
    for path in (tmp_path / 'a.npy', tmp_path / 'a.json'):
        confidence = read_people(path).points[0, :, 2]
        assert confidence[POINTS.index('LElbow')] < .1
        np.testing.assert_array_equal(confidence == .9, np.array(POINTS) != 'LElbow')


def test_the_nose_replaces_both_ears_if_one_is_hidden(tmp_path):
    person = COCO_17.copy()
    person[4, 2] = .1
    np.save(tmp_path / 'a.npy', person)
    np.testing.assert_allclose(read_people(tmp_path / 'a.npy').points[0, 1:3], [(960, 330, .9)] * 2)


HUMAN36M = np.array([(960, 620), (930, 620), (926, 782), (922, 942), (990, 620), (992, 780),
                     (994, 940), (960, 525), (960, 430), (960, 330), (960, 270), (1015, 430),
                     (1070, 380), (1075, 280), (905, 430), (890, 535), (885, 630)])


@pytest.mark.parametrize('name, content, words', (
    ('a.json', '[1, 2', 'no readable'), ('a.json', '[' * 100_000, 'no readable'),
    ('a.json', '[]', 'anyone'), ('a.json', '7', 'no people'),
    ('a.json', '[{"keypoints": [1, 2, 3]}]', '3 numbers'),
    ('a.json', '[{"keypoints": [1, 2], "track_id": {}}]', 'numbers or names'),
    ('a.json', json.dumps([{'keypoints': 51 * ['a']}]), 'no numbers'),
    ('a.npy', '', 'no readable'), ('a.npy', np.zeros((1, 19, 2)), '(19, 2)'),
    ('a.npy', np.zeros((0, 17, 2)), 'anyone'), ('a.npy', np.array([{}]), 'no readable'),
    ('a.npy', np.full((2, 17, 3), .5), 'below 0.5, expected pixels'),
    ('a.npy', np.stack([HUMAN36M] * 5), 'Human3.6M'),
    ('a.npy', np.stack([np.insert(COCO_17, 0, COCO_17[:1], axis=0)] * 5), 'neck'),
    ('none.npy', None, 'No such file'), ('.', None, 'a folder without .json')))
def test_other_files_are_refused_in_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises((OSError, ValueError)) as error:
        read_people(path)
    assert str(error.value).startswith(f'{path}: ') and words in str(error.value)
    assert '\n' not in str(error.value)
