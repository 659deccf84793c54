import numpy as np
import pytest
import torch

from made import ARRAYS, random_pose
from pare.body import JOINTS, KEYPOINTS, PARENTS, Body
from pare.render import (face_parts, from_the_side, overlay, rasterise, scene, to_pixels,
                         vertex_normals)

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


def test_a_triangle_has_its_area_and_the_nearer_one_wins():
    points = np.array([[10., 10], [10, 90], [90, 10], [5, 5], [5, 95], [95, 5]])
    faces = np.array([[0, 1, 2], [3, 4, 5], [0, 2, 1]])  # the last is turned away
    which, _ = rasterise(points, np.array([1., 1, 1, 2, 2, 2]), faces, (100, 100))
    assert (which == 0).sum() == pytest.approx(80 * 80 / 2, rel=.02)
    assert (which == 1).sum() == pytest.approx(90 * 90 / 2 - 80 * 80 / 2, rel=.05)
    assert not (which == 2).any()
    beside = rasterise(points + 500, np.ones(6), faces, (100, 100))[0]
    assert (beside == -1).all()


def test_normals_of_a_sphere_point_from_its_middle():
    """Each part is a capsule; the normals of one that is round are its directions."""
    angles = np.arange(12) * np.pi / 6
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    vertices = np.vstack([ring, (0, 0, -1), (0, 0, 1)])
    after = (np.arange(12) + 1) % 12
    faces = np.vstack([np.stack([after, np.arange(12), np.full(12, 12)], axis=1),
                       np.stack([np.arange(12), after, np.full(12, 13)], axis=1)])
    np.testing.assert_allclose(vertex_normals(vertices, faces), vertices, atol=1e-6)


def test_parts_lie_where_their_joints_are(people):
    found = np.load(people)
    assert found['images'].shape == (40, 64, 64, 3) and found['images'].std() > 30
    hits, whole = [], found['visible'] == 1
    for labels, points in zip(found['labels'][whole], found['part'][whole]):
        for name in ('LElbow', 'RElbow', 'LKnee', 'RKnee'):
            x, y, _ = points[KEYPOINTS.index(name)]
            window = labels[max(int(y) - 2, 0):int(y) + 3, max(int(x) - 2, 0):int(x) + 3]
            joint = JOINTS.index(name)
            hits.append(bool({joint + 1, PARENTS[joint] + 1} & set(window.ravel())))
    assert np.mean(hits) > .75  # the others are behind the body


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


def test_an_overlay_changes_the_silhouette_alone():
    mesh = ARRAYS['v_template'] * (1, -1, -1)  # y down, as a camera sees it
    pixels = to_pixels(mesh, np.array([.9, 0, 0]), 60)
    image = np.full((50, 70, 3), 10, np.uint8)
    found = overlay(image, pixels, mesh, FACES)
    silhouette = rasterise(pixels, mesh[:, 2], FACES, (50, 70))[0] >= 0
    np.testing.assert_array_equal((found != 10).any(axis=2), silhouette)
    assert (image == 10).all() and silhouette.mean() > .05


def test_from_the_side_is_a_quarter_turn():
    vertices = np.random.default_rng(0).normal(size=(20, 3))
    once = from_the_side(vertices)
    np.testing.assert_allclose(once[:, 1], vertices[:, 1])
    for _ in range(3):
        once = from_the_side(once)
    np.testing.assert_allclose(once, vertices, atol=1e-12)
    distances = (np.linalg.norm(part[:, None] - part, axis=2) for part in
                 (vertices, from_the_side(vertices)))
    np.testing.assert_allclose(*distances)
