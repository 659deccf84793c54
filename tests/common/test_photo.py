"""A photograph and a video: EXIF, smoothing, the projection of the joints."""
import numpy as np
import pytest
from PIL import Image

from common.detector import People, from_array
from common.lifting import lift_people
from common.photo import places_in_film, read_picture, smooth, to_pixels
from common.skeleton import LIMBS
from conftest import COCO, person_of
from eval import load_model


def test_a_pictures_exif_tells_its_focal_length_and_turn(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6  # seen after a quarter turn
    exif.get_ifd(0x8769)[0xA405] = 28  # FocalLengthIn35mmFilm
    Image.new('RGB', (120, 90)).save(tmp_path / 'a.jpg', exif=exif)
    picture, focal = read_picture(tmp_path / 'a.jpg')
    assert picture.shape == (120, 90, 3) and focal == pytest.approx(28 / 36 * 120)
    Image.new('RGB', (120, 90)).save(tmp_path / 'b.png')
    assert read_picture(tmp_path / 'b.png')[1] is None
    (tmp_path / 'c.jpg').write_text('no picture')
    with pytest.raises(ValueError, match='c.jpg: '):
        read_picture(tmp_path / 'c.jpg')


def test_frames_are_averaged_as_a_slow_loop_does_it():
    joints = np.random.default_rng(0).normal(size=(30, 15, 3))
    joints[[3, *range(20, 30)]] = np.nan
    found = smooth(joints, window=5)
    for frame in range(30):
        known = [joints[other] for other in range(max(frame - 2, 0), min(frame + 3, 30))
                 if np.isfinite(joints[other]).all()]
        expected = np.mean(known, axis=0) if known else np.full((15, 3), np.nan)
        np.testing.assert_allclose(found[frame], expected)


def test_rows_of_people_with_ids_find_their_place_in_a_film():
    points = np.zeros((4, 15, 3))
    people = People(points, 'COCO', ['a', 'a', 'b', 'c'], [3, 7, 7, 3])
    assert places_in_film(people) == ([0, 0, 1, 2], [0, 1, 1, 0])
    with pytest.raises(ValueError, match='several people in a frame'):
        places_in_film(People(points, 'COCO', ['a', 'a', 'b', 'c'], 4 * [None]))


def test_pixels_are_where_the_camera_shows_the_joints(shipped):
    person = from_array(person_of(COCO))
    people = lift_people(load_model(shipped), person, (1920, 1080), 1500)
    pixels = to_pixels(people['joint_3d'], 1500, (960, 540))
    assert np.linalg.norm(pixels[0, LIMBS] - person[0, 3:, :2], axis=1).max() < 20
