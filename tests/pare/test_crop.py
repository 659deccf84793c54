"""Photographs, crops of them, and the rasteriser."""
import numpy as np
import pytest
from PIL import Image

from made import refused
from pare.crop import crop_matrix, read_photo, warp
from pare.render import rasterise


# ---- the crop -----------------------------------------------------------------------------------

@pytest.mark.parametrize('side, angle, flip', (
    (80, 0, False), (80, 0, True), (700.5, .6, False), (700.5, -2, True)))
def test_a_crop_keeps_places_and_areas(side, angle, flip):
    photo, half = np.zeros((800, 800, 3), np.uint8), round(side / 16)
    photo[520 - half:520 + half, 420 - half:420 + half] = 255  # centred on (420, 520)
    matrix = crop_matrix((410, 530), side, 64, angle, flip)
    np.testing.assert_allclose(matrix @ (410, 530, 1), (32, 32))
    found = warp(Image.fromarray(photo), matrix, 64).mean(axis=2)
    y, x = np.indices((64, 64)) + .5
    centre = (found * x).sum() / found.sum(), (found * y).sum() / found.sum()
    np.testing.assert_allclose(centre, matrix @ (420, 520, 1), atol=.05)
    assert found.sum() / 255 == pytest.approx((2 * half * 64 / side) ** 2, rel=.02)


def test_a_crop_that_is_smaller_does_not_alias():
    """Against means over the exact areas; a photograph of noise, the worst case."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (640, 640, 3), dtype=np.uint8))
    for side, resolution in ((640, 64), (480, 64), (448, 224), (192, 64)):
        found = warp(image, crop_matrix((320, 320), side, resolution), resolution).astype(float)
        low, size = 320 - side // 2, (resolution, resolution)
        exact = np.asarray(image.crop((low, low, low + side, low + side)).resize(
            size, Image.Resampling.BOX), dtype=float)
        far = np.asarray(image.transform(
            size, Image.Transform.AFFINE, (side / resolution, 0, low, 0, side / resolution, low),
            Image.Resampling.BILINEAR), dtype=float)
        assert np.abs(found - exact).mean() < .45 * np.abs(far - exact).mean(), side


# ---- photographs --------------------------------------------------------------------------------

SCENE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
TURNED = SCENE.swapaxes(0, 1)


def test_photographs_are_turned_as_they_are_seen(tmp_path):
    exif = Image.Exif()
    for exif[0x0112], stored in enumerate((
            SCENE, SCENE[:, ::-1], SCENE[::-1, ::-1], SCENE[::-1], TURNED, TURNED[::-1],
            TURNED[::-1, ::-1], TURNED[:, ::-1]), start=1):
        Image.fromarray(stored).save(tmp_path / 'a.png', exif=exif)
        np.testing.assert_array_equal(read_photo(tmp_path / 'a.png'), SCENE)


def test_photographs_of_every_kind_look_as_they_do(tmp_path):
    grey, clear = SCENE[..., 0], np.dstack([SCENE, np.full_like(SCENE[..., 0], 255)])
    clear[:, 4:, 3] = 0
    for image, expected in (
            (grey, grey[..., None].repeat(3, 2)),
            (grey.astype(np.uint16) * 257, grey[..., None].repeat(3, 2)),
            (clear, np.where(clear[..., 3:] > 0, SCENE, 255))):
        Image.fromarray(image).save(tmp_path / 'a.png')
        np.testing.assert_array_equal(read_photo(tmp_path / 'a.png'), expected)


def test_photographs_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / 'a.tif'
    Image.fromarray(SCENE).save(path, 'png')
    half = path.read_bytes()[:150]
    Image.fromarray(SCENE[:, :, 0] / np.float32(255)).save(path)
    for content, word in ((path.read_bytes(), 'floating-point'), (half, ''), (b'', '')):
        path.write_bytes(content)
        with refused(f'{path}: no readable image {word}'):
            read_photo(path)


# ---- the rasteriser -----------------------------------------------------------------------------

def by_pixels(points, depth, faces, size):
    """The nearest face at each pixel and the shares of its corners, one pixel at a time."""
    which, nearest = np.full(size, -1), np.full(size, np.inf)
    shares = np.zeros((*size, 3))
    for face, corners in enumerate(faces):
        edges = np.vstack([points[corners].T, np.ones(3)])
        if np.linalg.det(edges) >= 0:
            continue
        for row, column in np.ndindex(size):
            part = np.linalg.solve(edges, (column + .5, row + .5, 1))
            if part.min() >= 0 and part @ depth[corners] < nearest[row, column]:
                nearest[row, column] = part @ depth[corners]
                which[row, column], shares[row, column] = face, part
    return which, shares


def test_the_rasteriser_is_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    points, depth = rng.uniform(-4, 24, (30, 2)), rng.normal(size=30)
    faces = rng.permuted(np.tile(np.arange(30), (25, 1)), axis=1)[:, :3]
    found, expected = (draw(points, depth, faces, (18, 21)) for draw in (rasterise, by_pixels))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
