"""Photographs and crops of them."""
import numpy as np
import pytest
from PIL import Image, ImageFilter

from pare.crop import crop_matrix, read_photo, read_reduced, warp

# ---- the crop -----------------------------------------------------------------------------------

def test_the_crop_is_exact():
    matrix = crop_matrix((50, 40), 80, 64)
    np.testing.assert_allclose(matrix @ (50, 40, 1), (32, 32))
    np.testing.assert_allclose(matrix @ (10, 0, 1), (0, 0))
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[60:64, 70:74] = 255  # centred on (72, 62)
    found = warp(Image.fromarray(photo), matrix, 64).mean(axis=2)
    y, x = np.indices((64, 64)) + .5
    centre = (found * x).sum() / found.sum(), (found * y).sum() / found.sum()
    np.testing.assert_allclose(centre, matrix @ (72, 62, 1), atol=.05)


def test_a_crop_that_is_smaller_does_not_alias():
    """Against means over the exact areas; a photograph of noise, the worst case."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (1280, 1280, 3), dtype=np.uint8)
    image = Image.fromarray(photo)
    for side, resolution in ((1280, 64), (960, 64), (640, 64), (448, 224), (192, 64)):
        found = warp(image, crop_matrix((640, 640), side, resolution), resolution).astype(float)
        low = 640 - side // 2
        exact = np.asarray(Image.fromarray(photo).crop((low, low, low + side, low + side)).resize(
            (resolution, resolution), Image.Resampling.BOX), dtype=float)
        far = np.asarray(image.transform((resolution, resolution), Image.Transform.AFFINE,
                                         (side / resolution, 0, low, 0, side / resolution, low),
                                         Image.Resampling.BILINEAR), dtype=float)
        assert np.abs(found - exact).mean() < .45 * np.abs(far - exact).mean(), side
        moved = warp(image, crop_matrix((641, 640), side, resolution), resolution)
        if side / resolution >= 7:
            assert np.abs(moved - found).mean() < 6 and np.abs(found - exact).mean() < 3, side


def test_a_turned_and_reduced_crop_keeps_its_place():
    photo = np.zeros((800, 800, 3), np.uint8)
    photo[500:540, 300:340] = 255  # centred on (320, 520)
    for angle, flip in ((0, True), (.6, False), (-2, True)):
        matrix = crop_matrix((410, 430), 700.5, 64, angle, flip)
        found = warp(Image.fromarray(photo), matrix, 64).mean(axis=2)
        y, x = np.indices((64, 64)) + .5
        centre = (found * x).sum() / found.sum(), (found * y).sum() / found.sum()
        np.testing.assert_allclose(centre, matrix @ (320, 520, 1), atol=.05)
        assert found.sum() / 255 == pytest.approx((40 * 64 / 700.5) ** 2, rel=.02)


# ---- photographs --------------------------------------------------------------------------------

SCENE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
SCENE = SCENE.repeat(16, axis=0).repeat(16, axis=1)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_photograph_is_turned_as_it_is_seen(tmp_path, orientation):
    stored = {1: SCENE, 2: SCENE[:, ::-1], 3: SCENE[::-1, ::-1], 4: SCENE[::-1],
              5: SCENE.swapaxes(0, 1), 6: SCENE.swapaxes(0, 1)[::-1],
              7: SCENE.swapaxes(0, 1)[::-1, ::-1], 8: SCENE.swapaxes(0, 1)[:, ::-1]}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / 'a.png', exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / 'a.png'), SCENE)


def test_photographs_of_every_kind_look_as_they_do(tmp_path):
    grey = SCENE[..., 0]
    deep, of_grey = Image.fromarray(grey.astype(np.uint16) * 257), grey[..., None].repeat(3, 2)
    clear = np.dstack([SCENE, np.full_like(grey, 255)])
    clear[:, 72:, 3] = 0
    over_white = np.where(clear[..., 3:] > 0, SCENE, 255)
    palette = Image.fromarray(SCENE).quantize(64)
    for name, image, expected in (
            ('grey.png', Image.fromarray(grey), of_grey), ('deep.png', deep, of_grey),
            ('deep.tif', deep, of_grey),
            ('clear.png', Image.fromarray(clear), over_white),
            ('clear.webp', Image.fromarray(clear), None),
            ('palette.png', palette, np.asarray(palette.convert('RGB'))),
            ('print.jpg', Image.fromarray(SCENE).convert('CMYK'), None)):
        image.save(tmp_path / name)
        found = read_photo(tmp_path / name)
        assert found.mode == 'RGB' and found.size == (144, 96), name
        if expected is not None:
            np.testing.assert_array_equal(found, expected, name)


def test_photographs_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    png, jpg = tmp_path / 'a.png', tmp_path / 'a.jpg'
    Image.fromarray(SCENE).save(png)
    Image.fromarray(SCENE).save(jpg)
    whole = png.read_bytes()
    chunk = whole.index(b'IDAT') - 4
    for path, content in (
            (png, whole[:len(whole) // 2]), (png, b''), (jpg, jpg.read_bytes()[:700]),
            (png, whole[:chunk] + b'\0\0\0\5abc\n' + whole[chunk:]), (png, None)):
        path.unlink() if content is None else path.write_bytes(content)
        for most in (1, 8):
            with pytest.raises(ValueError, match=f'{path}: found no readable image') as error:
                read_reduced(path, most)
            assert '\n' not in str(error.value)
    Image.fromarray(SCENE[..., 0] / np.float32(255)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match='a.tif: found no readable image .floating-point'):
        read_photo(tmp_path / 'a.tif')
    png.write_bytes(whole)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(ValueError, match='a.png: found no readable image .*bomb'):
        read_photo(png)


# ---- reduced photographs ------------------------------------------------------------------------

TURNS = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}  # how it is stored


def save_turned(path, image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = TURNS[orientation]
    (image if turn is None else image.transpose(turn)).save(path, quality=95, exif=exif)


@pytest.mark.parametrize('orientation', TURNS)
@pytest.mark.parametrize('size', ((640, 480), (637, 483)))
def test_a_crop_of_a_reduced_photograph_is_that_of_the_whole(tmp_path, orientation, size):
    """Boxes are in pixels of the whole photograph, as it is seen."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    smooth = np.asarray(noise.filter(ImageFilter.GaussianBlur(6)), dtype=float)
    image = Image.fromarray(np.uint8(4 * (smooth - 95)))
    save_turned(tmp_path / 'a.jpg', image, orientation)
    for side, expected in ((80, 1), (140, 2), (300, 4), (530, 8)):
        matrix = crop_matrix((281.3, 260.8), side, 64, angle=.4, flip=True)
        whole = warp(read_photo(tmp_path / 'a.jpg'), matrix, 64).astype(float)
        reduced, k = read_reduced(tmp_path / 'a.jpg', side / 64)
        assert k == (expected if orientation == 1 or size == (640, 480) else 1)
        found = warp(reduced, matrix @ np.diag([k, k, 1]), 64)
        assert np.abs(found - whole).mean() < .06 * whole.std(), side
        moved = warp(reduced, matrix @ np.diag([k, k, 1]) + [[0, 0, .5], [0, 0, 0]], 64)
        assert np.abs(moved - whole).mean() > 2 * np.abs(found - whole).mean(), side


def test_only_a_jpeg_is_reduced(tmp_path):
    Image.fromarray(SCENE).save(tmp_path / 'a.png')
    image, k = read_reduced(tmp_path / 'a.png', 8)
    assert image.size == (144, 96) and k == 1
