import numpy as np
import torch

from made import ARRAYS, random_pose
from pare.body import Body
from pare.render import face_parts, rasterise, scene, to_pixels

FACES = ARRAYS['f']


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
    assert len(np.unique(found[0])) > 8


def test_a_scene_shows_its_body_and_nothing_hides_it_without_occluders():
    betas, rotations = random_pose(1, angle=.2)
    rotations[:, 0] = torch.diag(torch.tensor([1., -1, -1]))
    mesh, camera = Body(ARRAYS)(betas, rotations)[0][0].numpy(), np.array([.8, 0, .2])
    parts = face_parts(ARRAYS['weights'], FACES)
    image, labels, hidden = scene(np.random.default_rng(1), mesh, FACES, parts, camera, 48, 3, 0)
    silhouette = rasterise(to_pixels(mesh, camera, 48), mesh[:, 2], FACES, (48, 48))[0] >= 0
    np.testing.assert_array_equal(labels > 0, silhouette)
    assert image.dtype == np.uint8 and not hidden.any() and len(np.unique(labels)) > 12
    covered = scene(np.random.default_rng(1), mesh, FACES, parts, camera, 48, 3, 3)
    assert covered[2].any() and np.array_equal(covered[1], labels)


def test_a_face_is_of_the_joint_that_its_corners_follow():
    weights = np.zeros((4, 24))
    weights[:2, 4], weights[:2, 7] = .6, .4
    weights[2, 7] = 1
    weights[3, 23] = 1
    faces = np.array([[0, 1, 2], [0, 1, 3], [2, 2, 0]])
    assert face_parts(weights, faces).tolist() == [8, 5, 8]
