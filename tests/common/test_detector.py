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
BODY_18 = """nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow,
left wrist, right hip, right knee, right ankle, left hip, left knee, left ankle, right eye,
left eye, right ear, left ear"""
MEDIAPIPE = """nose, left eye inner, left eye, left eye outer, right eye inner, right eye,
right eye outer, left ear, right ear, mouth left, mouth right, left shoulder, right shoulder,
left elbow, right elbow, left wrist, right wrist, left pinky, right pinky, left index, right index,
left thumb, right thumb, left hip, right hip, left knee, right knee, left ankle, right ankle,
left heel, right heel, left foot index, right foot index"""


def flat(person):
    return person.ravel().tolist()


def mmpose(person):
    return {'keypoints': person[:, :2].tolist(), 'keypoint_scores': person[:, 2].tolist(),
            'bbox': [[850, 280, 1070, 960]], 'bbox_score': .9}


def ultralytics(person):
    x, y, visible = person.T.tolist()
    return {'name': 'person', 'class': 0, 'confidence': .9, 'box': {'x1': 850.},
            'keypoints': {'x': x, 'y': y, 'visible': visible}}


COCO_17, OPENPOSE_25, OPENPOSE_18 = person_of(COCO), person_of(BODY_25), person_of(BODY_18)
HALPE, WHOLEBODY, HALPE_136 = (np.vstack([COCO_17, np.tile((7, 7, .9), (n - 17, 1))])
                               for n in (26, 133, 136))
MEDIA = np.insert(person_of(MEDIAPIPE), 2, 5, axis=1)  # x, y, z, visibility
LABELLED = COCO_17 * [1, 1, 0] + [0, 0, 2]
JSON = {
    'COCO results': [{'image_id': 7, 'category_id': 1, 'keypoints': flat(COCO_17), 'score': .8}],
    'COCO annotations': {'images': [], 'annotations': [{'image_id': 7,
                                                        'keypoints': flat(LABELLED)}]},
    'OpenPose': {'version': 1.3, 'people': [{'pose_keypoints_2d': flat(OPENPOSE_25),
                                             'face_keypoints_2d': []}]},
    'OpenPose 18': {'version': 1.1, 'people': [{'pose_keypoints': flat(OPENPOSE_18)}]},
    'OpenPose 36': {'people': [{'pose_keypoints_2d': flat(OPENPOSE_18[:, :2])}]},
    'AlphaPose': [{'image_id': '7.jpg', 'keypoints': flat(COCO_17), 'box': [1, 2, 3, 4]}],
    'Halpe': [{'image_id': '7.jpg', 'keypoints': flat(HALPE), 'idx': 1}],
    'Halpe 136': [{'image_id': '7.jpg', 'keypoints': flat(HALPE_136)}],
    'WholeBody': [mmpose(WHOLEBODY)], 'MMPose': [mmpose(COCO_17)],
    'MMPose images': [[mmpose(COCO_17)]],
    'MMPose predictions': {'predictions': [[mmpose(COCO_17)]]},
    'ViTPose': [{'keypoints': COCO_17[:, :2].tolist(), 'scores': [.9] * 17}],
    'MMPose video': [{'frame_id': 7, 'instances': [mmpose(COCO_17)]}],
    'MMPose demo': {'meta_info': {}, 'instance_info': [{'frame_id': 7,
                                                        'instances': [mmpose(COCO_17)]}]},
    'Ultralytics': [ultralytics(COCO_17)]}
ARRAYS = {'COCO': COCO_17, 'BODY_25': OPENPOSE_25, 'MediaPipe': MEDIA, 'Halpe': HALPE}


@pytest.mark.parametrize('name', JSON)
def test_forms_of_json(tmp_path, name):
    (tmp_path / 'A.JSON').write_text(json.dumps(JSON[name]))
    people = read_people(tmp_path / 'A.JSON')
    expected = HAND_MADE.copy()
    expected[:, 2] = {'COCO annotations': 2, 'OpenPose 36': 1}.get(name, .9)
    np.testing.assert_allclose(people.points, [expected])
    known = {'COCO results', 'COCO annotations', 'MMPose video', 'MMPose demo'}
    assert people.frames == [7 if name in known else '7.jpg' if 'jpg' in str(JSON[name]) else 0]


@pytest.mark.parametrize('name', ARRAYS)
@pytest.mark.parametrize('n_people', (1, 3))
def test_arrays_of_people_or_of_one(tmp_path, name, n_people):
    np.save(tmp_path / 'a.npy', ARRAYS[name] if n_people == 1 else np.stack([ARRAYS[name]] * 3))
    people = read_people(tmp_path / 'a.npy')
    np.testing.assert_allclose(people.points, [HAND_MADE] * n_people)
    assert people.kind == name and people.frames == list(range(n_people))


def test_arrays_of_flat_rows_and_with_an_axis_of_one_person(tmp_path):
    for rows in (np.stack([MEDIA.ravel()] * 4), MEDIA[None, None], MEDIA[:, :3].reshape(1, -1)):
        np.save(tmp_path / 'a.npy', rows)
        people = read_people(tmp_path / 'a.npy')
        np.testing.assert_allclose(people.points[..., :2], [HAND_MADE[:, :2]] * len(rows))


def test_who_people_are_is_told_by_trackers(tmp_path):
    openpose = {'pose_keypoints_2d': flat(OPENPOSE_25)}
    for content, ids in (
            ([{'image_id': 1, 'keypoints': flat(COCO_17), 'idx': 4}], [4]),
            ({'people': [{'person_id': [-1], **openpose}, {'person_id': [2], **openpose}]},
             [None, 2]),
            ([{'frame_id': 1, 'instances': [{'track_id': 3, **mmpose(COCO_17)}]}], [3]),
            ([{'track_id': 5, **ultralytics(COCO_17)}], [5])):
        (tmp_path / 'a.json').write_text(json.dumps(content))
        assert read_people(tmp_path / 'a.json').ids == ids


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for frame in (10, 2, 1):
        (tmp_path / f'img_{frame}_keypoints.json').write_text(json.dumps({'people': [
            {'pose_keypoints_2d': flat(OPENPOSE_25)}]}))
    assert read_people(tmp_path).frames == [1, 2, 10]


def test_a_third_column_of_mediapipe_in_0_to_1_is_its_confidence(tmp_path):
    np.save(tmp_path / 'a.npy', np.delete(MEDIA, 2, axis=1))
    np.save(tmp_path / 'b.npy', MEDIA[:, :3])
    assert (read_people(tmp_path / 'a.npy').points[..., 2] == .9).all()
    assert (read_people(tmp_path / 'b.npy').points[..., 2] == 1).all()


def test_people_without_points_and_objects(tmp_path):
    """Hands alone have a row; objects of COCO's annotations have none."""
    (tmp_path / 'a.json').write_text(json.dumps({'people': [
        {'pose_keypoints_2d': []}, {'pose_keypoints_2d': flat(OPENPOSE_25)}]}))
    assert read_people(tmp_path / 'a.json').points[..., 2].any(axis=1).tolist() == [False, True]
    (tmp_path / 'b.json').write_text(json.dumps({'annotations': [
        {'image_id': 1, 'bbox': [1, 2, 3, 4]}, {'image_id': 2, 'keypoints': flat(COCO_17)}]}))
    assert read_people(tmp_path / 'b.json').frames == [2]


def test_a_folder_of_frames_keeps_the_empty_one(tmp_path):
    for frame, people in enumerate(([OPENPOSE_25], [], [OPENPOSE_25, 2 * OPENPOSE_25])):
        (tmp_path / f'video_{frame:012}_keypoints.json').write_text(json.dumps({'people': [
            {'pose_keypoints_2d': flat(person)} for person in people]}))
    people = read_people(tmp_path)
    assert people.frames == [0, 1, 2, 2]
    assert (people.points[1] == 0).all() and (people.points[[0, 2, 3], :, 2] > .8).all()
    (tmp_path / 'a.json').write_text(json.dumps([
        {'frame_id': 1, 'instances': [mmpose(COCO_17)]}, {'frame_id': 2, 'instances': []}]))
    assert read_people(tmp_path / 'a.json').frames == [1, 2]


@pytest.mark.parametrize('missing', ((0, 0, .9), (-1, -1, 1), (np.nan, np.nan, .9), (5, 5, .01)))
def test_a_missing_point_is_not_certain(tmp_path, missing):
    person = COCO_17.copy()
    person[7] = missing  # the left elbow
    np.save(tmp_path / 'a.npy', person)
    confidence = read_people(tmp_path / 'a.npy').points[0, :, 2]
    assert confidence[POINTS.index('LElbow')] < .1
    np.testing.assert_array_equal(confidence == .9, np.array(POINTS) != 'LElbow')
    text = json.dumps([{'keypoints': flat(person)}]).replace('NaN', 'null')
    (tmp_path / 'a.json').write_text(text)
    np.testing.assert_allclose(read_people(tmp_path / 'a.json').points[0, :, 2], confidence)


def test_without_confidences_all_points_count_as_1_and_percent_are_shares(tmp_path):
    np.save(tmp_path / 'a.npy', COCO_17[:, :2])
    np.save(tmp_path / 'b.npy', COCO_17 * [1, 1, 100])
    assert (read_people(tmp_path / 'a.npy').points[..., 2] == 1).all()
    np.testing.assert_allclose(read_people(tmp_path / 'b.npy').points[..., 2], .9)


def test_the_nose_replaces_both_ears_if_one_is_hidden(tmp_path):
    person = COCO_17.copy()
    person[4, 2] = .1
    np.save(tmp_path / 'a.npy', person)
    np.testing.assert_allclose(read_people(tmp_path / 'a.npy').points[0, 1:3], [(960, 330, .9)] * 2)


def human36m():
    """The same person in the order of Human3.6M."""
    joint = {name: np.array(place) for name, place in PERSON.items()}
    hips, shoulders = ((joint[f'left {name}'] + joint[f'right {name}']) / 2
                       for name in ('hip', 'shoulder'))
    legs = [joint[f'{side} {name}'] for side in ('right', 'left') for name in ('hip', 'knee',
                                                                              'ankle')]
    arms = [joint[f'{side} {name}'] for side in ('left', 'right') for name in ('shoulder', 'elbow',
                                                                              'wrist')]
    return np.array([hips, *legs, (hips + shoulders) / 2, shoulders, joint['nose'],
                     joint['nose'] - (0, 60), *arms])


@pytest.mark.parametrize('name, content, words', (
    ('a.json', '[1, 2', 'no readable'), ('a.json', '[' * 100_000, 'no readable'),
    ('a.json', '[]', 'anyone'), ('a.json', '7', 'no people'),
    ('a.json', '{"people": []}', 'anyone'),
    ('a.json', '[{"keypoints": [1, 2, 3]}]', '3 numbers'),
    ('a.json', json.dumps([{'keypoints': 51 * ['a']}]), 'no numbers'),
    ('a.json', json.dumps({'people': [{'pose_keypoints_2d': 57 * [3]}]}), '57 numbers'),
    ('a.npy', '', 'no readable'), ('a.npy', np.zeros((1, 19, 2)), '(19, 2)'),
    ('a.npy', np.zeros((0, 17, 2)), 'anyone'), ('a.npy', np.array([{}]), 'no readable'),
    ('a.npy', np.full((2, 17, 3), .5), 'below 0.5, expected pixels'),
    ('a.npy', np.stack([human36m()] * 5), 'Human3.6M'),
    ('a.npy', np.stack([np.insert(COCO_17, 0, COCO_17[:1], axis=0)] * 5), 'neck')))
def test_other_files_are_refused_in_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(ValueError) as error:
        read_people(path)
    assert str(error.value).startswith(f'{path}: ') and words in str(error.value)
    assert '\n' not in str(error.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(OSError, match=f'{tmp_path / "a.json"}: '):
        read_people(tmp_path / 'a.json')
    with pytest.raises(ValueError, match=f'{tmp_path}: '):
        read_people(tmp_path)
