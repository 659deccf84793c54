"""Pictures of bodies: a rasteriser in numpy, scenes to train on, and meshes over photographs.

Images are (H, W, 3) bytes, RGB; pixel (0, 0) covers 0 to 1 in x, to the right, and in y, down.
"""
import numpy as np
from PIL import Image, ImageDraw

CLOTHES = {'skin': (12, 15, 18, 19, 20, 21, 22, 23), 'shirt': (3, 6, 9, 13, 14, 16, 17),
           'trousers': (0, 1, 2, 4, 5), 'shoes': (7, 8, 10, 11)}  # joints


def rasterise(points: np.ndarray, depth: np.ndarray, faces: np.ndarray,
              size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest face at each pixel (H, W), -1 for none, and its barycentric coordinates
    (H, W, 3).

    points (V, 2) are in pixels, depth (V,) away from the camera; size is height and width. Faces
    (F, 3) that are turned away, with corners clockwise on the screen, are left out.
    """
    x, y = points.T[:, faces.T]                                       # (3, F) each
    (one_x, two_x), (one_y, two_y) = x[1:] - x[0], y[1:] - y[0]
    area = one_x * two_y - one_y * two_x
    left, right = _covered(x, size[1])
    top, bottom = _covered(y, size[0])
    shown = np.flatnonzero((area < 0) & (left < right) & (top < bottom))
    left, top, width = left[shown], top[shown], (right - left)[shown]
    counts = width * (bottom[shown] - top)
    # all pixels of the boxes of all faces in one list
    box = np.repeat(np.arange(len(shown)), counts)
    down, along = np.divmod(np.arange(len(box)) - np.repeat(counts.cumsum() - counts, counts),
                            width[box])
    column, row = left[box] + along, top[box] + down
    edges = np.stack([two_y, -two_x, -one_y, one_x])[:, shown] / area[shown]
    dx, dy = column + .5 - x[0, shown][box], row + .5 - y[0, shown][box]
    share_1 = dx * edges[0, box] + dy * edges[1, box]
    share_2 = dx * edges[2, box] + dy * edges[3, box]
    inside = np.flatnonzero((share_1 >= 0) & (share_2 >= 0) & (share_1 + share_2 <= 1))
    pixel, face = (row * size[1] + column)[inside], shown[box[inside]]
    shares = np.stack([1 - share_1 - share_2, share_1, share_2])[:, inside]
    away = (shares * depth[faces[face]].T).sum(axis=0)
    nearest = np.full(size[0] * size[1], np.inf, dtype=away.dtype)
    np.minimum.at(nearest, pixel, away)
    wins = away == nearest[pixel]
    which, found = np.full(len(nearest), -1), np.zeros((len(nearest), 3), dtype=np.float32)
    which[pixel[wins]], found[pixel[wins]] = face[wins], shares[:, wins].T
    return which.reshape(size), found.reshape(*size, 3)


def _covered(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first and last + 1 (F,) of the pixels whose centres lie between corners (3, F)."""
    return (np.ceil(corners.min(axis=0) - .5).clip(0).astype(int),
            np.floor(corners.max(axis=0) + .5).clip(max=size).astype(int))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return outward unit normals (V, 3): area-weighted means over the faces of each vertex."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.stack([np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), len(vertices))
                     for axis in range(3)], axis=1)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(min=1e-12)


def shade(vertices: np.ndarray, faces: np.ndarray, which: np.ndarray, shares: np.ndarray,
          light=(-.3, -.5, -.8)) -> np.ndarray:
    """Return the brightness (K,) of the K covered pixels: ambient and Lambertian light."""
    seen = which >= 0
    normals = vertex_normals(vertices, faces)[faces[which[seen]]]                # (K, 3, 3)
    normal = np.einsum('kc,kcd->kd', shares[seen], normals)
    return .45 + .55 * (normal @ np.array(light) / np.linalg.norm(light)).clip(0)


def to_pixels(vertices: np.ndarray, camera: np.ndarray, size: int) -> np.ndarray:
    """Return pixels (V, 2) of vertices (V, 3) in a square crop, by the camera (s, tx, ty)."""
    return (camera[0] * (vertices[:, :2] + camera[1:]) + 1) * size / 2


def face_parts(weights: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the part of each face (F,), 1 to 24: the joint that its corners follow most."""
    return 1 + weights[faces].sum(axis=1).argmax(axis=1)


# ---- scenes -------------------------------------------------------------------------------------

def scene(rng, vertices: np.ndarray, faces: np.ndarray, parts: np.ndarray, camera: np.ndarray,
          size: int, n_clutter: int, n_occluders: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a person in a cluttered place.

    Returns the image (size, size, 3), the part at each pixel (size, size), 0 for none, as if
    nothing hid the person, and a mask (size, size) of the pixels that something hides.
    """
    points = to_pixels(vertices, camera, size)
    which, shares = rasterise(points, vertices[:, 2], faces, (size, size))
    body = which >= 0
    image = np.asarray(clutter(rng, background(rng, size), n_clutter), dtype=np.float32)
    image[body] = clothe(rng, parts)[which[body]] * shade(
        vertices, faces, which, shares, rng.normal((0, -.4, -1), .4))[:, None]
    labels = np.where(body, parts[which], 0).astype(np.uint8)
    hidden = occlude(rng, image, points, n_occluders)
    image *= rng.uniform(.8, 1.2, 3).astype(np.float32)
    image += rng.uniform(2, 10) * rng.standard_normal((size, size, 1), np.float32)
    return image.clip(0, 255).astype(np.uint8), labels, hidden


def background(rng, size: int) -> Image.Image:
    """Draw smooth patches of colour."""
    coarse = rng.integers(30, 226, (*rng.integers(2, 7, 2), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR)


def clutter(rng, image: Image.Image, n_shapes: int) -> Image.Image:
    """Draw ellipses and boxes over the image, in place."""
    draw = ImageDraw.Draw(image)
    for _ in range(n_shapes):
        centre, half = rng.uniform(0, image.width, 2), rng.uniform(.04, .25, 2) * image.width
        box = (*(centre - half), *(centre + half))
        (draw.ellipse if rng.random() < .5 else draw.rectangle)(box, tuple(rng.integers(0, 256, 3)))
    return image


def clothe(rng, parts: np.ndarray) -> np.ndarray:
    """Draw a colour for each face (F, 3) of parts 1 to 24: skin, shirt, trousers and shoes."""
    skin = np.array([235, 190, 160]) * rng.uniform(.35, 1)
    colours = np.zeros((25, 3))
    for name, joints in CLOTHES.items():
        colours[np.array(joints) + 1] = skin if name == 'skin' else rng.uniform(10, 245, 3)
    return colours[parts]


def occlude(rng, image: np.ndarray, points: np.ndarray, n: int) -> np.ndarray:
    """Paint n shapes over the body, in place; return the mask of their pixels."""
    low, high = points.min(axis=0), points.max(axis=0)
    shapes = Image.new('I', image.shape[1::-1], 0)
    draw = ImageDraw.Draw(shapes)
    for shape in range(1, n + 1):
        centre, half = rng.uniform(low, high), rng.uniform(.08, .25, 2) * (high - low).max()
        box = (*(centre - half), *(centre + half))
        (draw.ellipse if rng.random() < .5 else draw.rectangle)(box, shape)
    shapes = np.asarray(shapes)
    hidden = shapes > 0
    image[hidden] = rng.uniform(0, 255, (n + 1, 3))[shapes[hidden]]
    return hidden


# ---- pictures -----------------------------------------------------------------------------------

def overlay(image: np.ndarray, pixels: np.ndarray, vertices: np.ndarray, faces: np.ndarray,
            colour=(120, 170, 235)) -> np.ndarray:
    """Draw the mesh over a copy of an image, its vertices (V, 3) at these pixels (V, 2)."""
    which, shares = rasterise(pixels, vertices[:, 2], faces, image.shape[:2])
    result = image.copy()
    result[which >= 0] = shade(vertices, faces, which, shares)[:, None] * np.array(colour)
    return result


def from_the_side(vertices: np.ndarray) -> np.ndarray:
    """Turn vertices (V, 3) by a quarter about the vertical through their middle."""
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    x, y, z = (vertices - middle).T
    return np.stack([z, y, -x], axis=1) + middle
