"""Photographs as they are seen, and crops of them."""
import math
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from common.files import one_line


# ---- the crop -----------------------------------------------------------------------------------

def crop_matrix(centre, side: float, resolution: int, angle: float = 0.,
                flip: bool = False) -> np.ndarray:
    """Return the affine map (2, 3) from pixels of the photograph to pixels of the crop.

    The crop shows the box of this centre and side, flipped, then turned by an angle in radians from
    x to y.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    turn, mirror = np.array([[cos, -sin], [sin, cos]]), np.diag([-1 if flip else 1, 1])
    linear = resolution / side * turn @ mirror
    return np.column_stack([linear, resolution / 2 - linear @ np.asarray(centre)])


def warp(image: Image.Image, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """Crop an image by `crop_matrix` to bytes (R, R, 3), black outside the image.

    If the crop is smaller than its box, it is anti-aliased: the image is reduced by an integer
    factor, then warped onto a finer crop, and this crop is reduced.
    """
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    pixels = math.sqrt(abs(np.linalg.det(inverse[:, :2])))  # image pixels in a crop pixel
    before = max(int(pixels / 2), 1)
    after = max(math.ceil(pixels / before - .1), 1)
    image = image.reduce(before) if before > 1 else image
    fine = image.transform((after * resolution, after * resolution), Image.Transform.AFFINE,
                           (inverse / before / (after, after, 1)).ravel(),
                           Image.Resampling.BILINEAR)
    return np.array(fine.reduce(after) if after > 1 else fine)


def warp_labels(labels: np.ndarray, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """Crop labels (H, W) by `crop_matrix`: each is the nearest, 0 outside."""
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    return np.asarray(Image.fromarray(labels).transform(
        (resolution, resolution), Image.Transform.AFFINE, inverse.ravel(),
        Image.Resampling.NEAREST)).astype(np.int64)


# ---- photographs --------------------------------------------------------------------------------

def read_photo(path: Path) -> Image.Image:
    """Read a photograph upright (by its EXIF tag), as RGB of 8 bits, white where transparent.

    Raises ValueError that names the file if it cannot be read.
    """
    return read_reduced(path, 1)[0]


def read_reduced(path: Path, most: float) -> tuple[Image.Image, int]:
    """Read a photograph as `read_photo` at 1 / k of its size; also return k, at most `most`.

    Only a JPEG is reduced. To decode it at half its size takes half the time.
    """
    try:
        with Image.open(path) as image:
            k = reduction(image, most)
            image.draft('RGB', (image.width // k, image.height // k))
            image = ImageOps.exif_transpose(image)
            if image.mode == 'F':
                raise ValueError('floating-point numbers, expected 8 or 16 bits')
            if image.mode.startswith('I'):  # grey of 16 bits
                image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                clear = image.convert('RGBA')
                image = Image.new('RGBA', image.size, 'white')
                image.alpha_composite(clear)
            return image.convert('RGB'), k
    except Exception as error:  # a damaged file may raise any exception
        raise ValueError(f'{path}: found no readable image ({one_line(error)})') from error


def reduction(image: Image.Image, most: float) -> int:
    """Return the largest reduction that a JPEG decoder has, at most `most`; 1 for other files.

    If EXIF turns the image, k must divide its sides: otherwise a partial last pixel becomes the
    first, and all others are shifted.
    """
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return max(k for k in (1, 2, 4, 8) if k == 1 or (
        image.format == 'JPEG' and k <= min(most, *image.size)
        and not (turned and (image.width % k or image.height % k))))


def readable(path: Path) -> bool:
    """Tell if a photograph can be read to its end."""
    try:
        read_reduced(path, 8)
    except ValueError:
        return False
    return True
