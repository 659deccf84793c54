"""Photographs and crops of them."""
import numpy as np
import pytest
from PIL import Image, ImageFilter

from made import refused
from pare.crop import crop_matrix, read_photo, read_reduced, warp

# ---- the crop -----------------------------------------------------------------------------------

@pytest.mark.parametrize('side, angle, flip', (
    (80, 0, False), (80, 0, True), (700.5, 0, True), (700.5, .6, False), (700.5, -2, True)))
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
SCENE = SCENE.repeat(16, axis=0).repeat(16, axis=1)
TURNED = SCENE.swapaxes(0, 1)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize('orientation, stored', tuple(enumerate((
    SCENE, SCENE[:, ::-1], SCENE[::-1, ::-1], SCENE[::-1], TURNED, TURNED[::-1],
    TURNED[::-1, ::-1], TURNED[:, ::-1]), start=1)))
def test_a_photograph_is_turned_as_it_is_seen(tmp_path, orientation, stored):
    Image.fromarray(stored).save(tmp_path / 'a.png', exif=oriented(orientation))
    np.testing.assert_array_equal(read_photo(tmp_path / 'a.png'), SCENE)


def test_photographs_of_every_kind_look_as_they_do(tmp_path):
    clear = np.dstack([SCENE, np.full_like(SCENE[..., 0], 255)])
    clear[:, 72:, 3] = 0
    grey, palette = SCENE[..., 0], Image.fromarray(SCENE).quantize(64)
    for image, expected in (
            (Image.fromarray(grey), grey[..., None].repeat(3, 2)),
            (Image.fromarray(grey.astype(np.uint16) * 257), grey[..., None].repeat(3, 2)),
            (Image.fromarray(clear), np.where(clear[..., 3:] > 0, SCENE, 255)),
            (palette, np.asarray(palette.convert('RGB')))):
        image.save(tmp_path / 'a.png')
        np.testing.assert_array_equal(read_photo(tmp_path / 'a.png'), expected, image.mode)


def test_photographs_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    Image.fromarray(SCENE).save(path)
    whole = path.read_bytes()
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    for content, message in ((whole[:len(whole) // 2], ''), (b'', ''), (whole, ' .*bomb')):
        path.write_bytes(content)
        with refused(f'{path}: found no readable image{message}'):
            read_reduced(path, 8)
    Image.fromarray(SCENE[:5, :5, 0] / np.float32(255)).save(tmp_path / 'a.tif')
    with refused('a.tif: found no readable image .floating-point'):
        read_photo(tmp_path / 'a.tif')


@pytest.mark.parametrize('orientation, turn', (
    (1, None), (3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)))
@pytest.mark.parametrize('size', ((640, 480), (637, 483)))
def test_a_crop_of_a_reduced_photograph_is_that_of_the_whole(tmp_path, orientation, turn, size):
    """Boxes are in pixels of the whole photograph, as it is seen."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    smooth = np.asarray(noise.filter(ImageFilter.GaussianBlur(6)), dtype=float)
    image = Image.fromarray(np.uint8(4 * (smooth - 95)))
    image = image if turn is None else image.transpose(turn)
    image.save(tmp_path / 'a.jpg', quality=95, exif=oriented(orientation))
    for side, expected in ((80, 1), (140, 2), (300, 4), (530, 8)):
        matrix = crop_matrix((281.3, 260.8), side, 64, angle=.4, flip=True)
        whole = warp(read_photo(tmp_path / 'a.jpg'), matrix, 64).astype(float)
        reduced, k = read_reduced(tmp_path / 'a.jpg', side / 64)
        assert k == (expected if orientation == 1 or size == (640, 480) else 1)
        found = warp(reduced, matrix @ np.diag([k, k, 1]), 64)
        assert np.abs(found - whole).mean() < .06 * whole.std(), side
