"""The stand-in body: one capsule for each joint, with the keys, types and axes of an SMPL file."""
import numpy as np

from pare.body import EXTRA, H36M, JOINTS, N_BETAS, PARENTS

RINGS, SEGMENTS = 7, 10
# for each joint: offset from its parent, then half width and half depth of its part, in metres
SKELETON = np.array([
    (0, 0, 0, .130, .090), (.075, -.085, 0, .078, .080), (-.075, -.085, 0, .078, .080),
    (0, .105, 0, .125, .085), (.02, -.385, 0, .055, .058), (-.02, -.385, 0, .055, .058),
    (0, .13, 0, .135, .090), (0, -.395, -.01, .038, .040), (0, -.395, -.01, .038, .040),
    (0, .055, 0, .145, .095), (.01, -.06, .09, .040, .032), (-.01, -.06, .09, .040, .032),
    (0, .21, -.02, .050, .052), (.075, .115, -.01, .055, .060), (-.075, .115, -.01, .055, .060),
    (0, .085, .01, .075, .090), (.1, .035, 0, .048, .050), (-.1, .035, 0, .048, .050),
    (.255, -.01, 0, .040, .040), (-.255, -.01, 0, .040, .040), (.25, 0, 0, .030, .028),
    (-.25, 0, 0, .030, .028), (.08, 0, 0, .042, .020), (-.08, 0, 0, .042, .020)])
TIPS = {10: (0, -.01, .08), 11: (0, -.01, .08), 15: (0, .14, .01), 22: (.09, 0, 0),
        23: (-.09, 0, 0)}  # ends of parts that have no child
CHILD = {0: 3, 9: 12, **{parent: joint for joint, parent in enumerate(PARENTS)
                         if parent not in (-1, 0, 9)}}
TORSO, HEAD, LEGS, ARMS = (0, 3, 6, 9), (12, 15), (4, 5, 7, 8), (18, 19, 20, 21)
# relative change per unit of each beta: of bones, and of half widths and depths of the parts
BETAS = (
    ({range(24): .05}, {range(24): .05}),                        # size
    ({}, {range(24): .10}),                                      # girth
    ({(3, 6, 9, 12): .06}, {}),                                  # torso
    ({ARMS: .06}, {}),                                           # arms
    ({LEGS: .06}, {}),                                           # legs
    ({(13, 14, 16, 17): .08}, {(9,): .06}),                      # shoulders
    ({(1, 2): .10}, {(0, 1, 2): .06}),                           # hips
    ({}, {(3, 6): .14}),                                         # belly
    ({(15,): .06}, {HEAD: .08}),                                 # head
    ({}, {(*LEGS, *ARMS, 1, 2, 16, 17): .12}))                   # thickness of the limbs


def shape_body(betas=np.zeros(N_BETAS)) -> tuple[np.ndarray, np.ndarray]:
    """Make vertices (24, 72, 3) of the 24 parts and joints (24, 3) of the stand-in, at rest.

    A part is a capsule from its joint to its main child: a pole, seven rings, a pole.
    """
    bones, widths = np.ones(24), np.ones(24)
    for beta, (of_bones, of_widths) in zip(betas, BETAS):
        for factors, changes in ((bones, of_bones), (widths, of_widths)):
            for joints, change in changes.items():
                factors[list(joints)] *= 1 + beta * change
    joints = np.zeros((24, 3))
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[joint] = joints[parent] + bones[joint] * SKELETON[joint, :3]
    parts = []
    for joint, start in enumerate(joints):
        end = (joints[CHILD[joint]] if joint in CHILD else
               start + bones[joint] * np.array(TIPS[joint]))
        length = np.linalg.norm(end - start)
        axis = (end - start) / length
        across = np.eye(3)[0 if abs(axis[0]) < .8 else 1]
        across -= across @ axis * axis
        across /= np.linalg.norm(across)
        half = np.stack([across, np.cross(axis, across)])
        half *= widths[joint] * SKELETON[joint, 3:, None]
        cap = np.linalg.norm(half, axis=1).mean()
        angle = 2 * np.pi * (np.arange(SEGMENTS) + .5) / SEGMENTS
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ half                # (10, 3)
        along = np.array([-.7 * cap, *np.linspace(0, length, 5), length + .7 * cap])
        width = np.array([.7, 1, 1, 1, 1, 1, .7])
        rings = start + along[:, None, None] * axis + width[:, None, None] * circle     # (7, 10, 3)
        parts.append([start - cap * axis, *rings.reshape(-1, 3), end + cap * axis])
    return np.array(parts), joints


def make_body() -> dict[str, np.ndarray]:
    """Make a body of 1,728 vertices in the keys, types and axes of SMPL; each joint has its part.
    """
    template, joints = shape_body()
    n_part = RINGS * SEGMENTS + 2
    shapes = np.stack([(shape_body(step)[0] - shape_body(-step)[0]) / 2 for step in np.eye(10)], -1)

    ring = 1 + np.arange(SEGMENTS)
    following = 1 + (np.arange(SEGMENTS) + 1) % SEGMENTS
    faces = [np.stack([np.zeros_like(ring), following, ring], axis=1)]
    for first in range(0, (RINGS - 1) * SEGMENTS, SEGMENTS):
        one, two, three, four = (first + end for end in (
            ring, following, ring + SEGMENTS, following + SEGMENTS))
        faces += [np.stack([one, two, three], axis=1), np.stack([two, four, three], axis=1)]
    last = (RINGS - 1) * SEGMENTS
    faces.append(np.stack([last + ring, last + following, np.full_like(ring, n_part - 1)], axis=1))
    faces = np.concatenate(faces)

    def rows(vertices_of_joint) -> np.ndarray:
        """Make a regressor whose rows are means of vertices of a part, given as (joint, vertices).
        """
        regressor = np.zeros((len(vertices_of_joint), 24, n_part))
        for row, (joint, vertices) in enumerate(vertices_of_joint):
            regressor[row, joint, vertices] = 1 / np.size(vertices)
        return regressor.reshape(-1, 24 * n_part)

    at_joint, top = ring + SEGMENTS, n_part - 1  # the ring around the joint; the pole at the end
    named = {name: (joint, at_joint) for joint, name in enumerate(JOINTS)}
    named |= {'Spine': named['Spine2'], 'Thorax': named['Neck'], 'Jaw': named['Head'],
              'HeadTop': (15, top)}
    weights, bulge = _skin(n_part)
    body = {'v_template': template.reshape(-1, 3), 'shapedirs': shapes.reshape(-1, 3, N_BETAS),
            'posedirs': bulge, 'J_regressor': rows([(j, at_joint) for j in range(24)]),
            'weights': weights.reshape(-1, 24),
            'kintree_table': np.array([(2 ** 32 - 1, *PARENTS[1:]), range(24)], dtype=np.uint32),
            'f': np.concatenate([faces + n_part * part for part in range(24)]).astype(np.uint32),
            'J_regressor_h36m': rows([named[name] if name != 'Head' else named['HeadTop']
                                      for name in H36M]),
            'J_regressor_extra': rows([named[name] for name in EXTRA]),
            'face': 15 * n_part + 1 + 3 * SEGMENTS + np.array([7, 8, 6, 9, 5]),
            'feet': feet(template)}
    return {key: array.astype(np.float32) if array.dtype == float else array
            for key, array in body.items()}


def feet(template: np.ndarray) -> np.ndarray:
    """Return big toe, small toe and heel, left then right, as vertices (6,) of parts (24, 72, 3).
    """
    n_part, found = template.shape[1], []
    for ankle, foot, side in ((7, 10, 1), (8, 11, -1)):
        outwards, ahead = (template[foot] * (side, 0, 1)).sum(axis=1), template[ankle, :, 2]
        found += [n_part * foot + n_part - 1, n_part * foot + outwards.argmax(),
                  n_part * ankle + ahead.argmin()]
    return np.array(found)


def _skin(n_part: int) -> tuple[np.ndarray, np.ndarray]:
    """Make weights (24, n_part, 24), blended towards the neighbours at both ends of a part, and
    pose directions (V, 3, 207): knees and elbows bulge a little."""
    weights = np.zeros((24, n_part, 24))
    ring_of = np.array([0, *np.repeat(np.arange(RINGS), SEGMENTS), RINGS - 1])
    for joint, parent in enumerate(PARENTS):
        for other, share in ((parent, np.array([.5, .5, .2, 0, 0, 0, 0])),
                             (CHILD.get(joint, -1), np.array([0, 0, 0, 0, .2, .5, .5]))):
            if other >= 0:
                weights[joint, :, other] += share[ring_of]
        weights[joint, :, joint] += 1 - weights[joint].sum(axis=1)
    bulge = np.zeros((24, n_part, 3, 23, 9))
    angle = 2 * np.pi * (np.arange(SEGMENTS) + .5) / SEGMENTS
    for joint in (4, 5, 18, 19):
        for place, entry, sign in ((1, 5, 1), (2, 7, -1)):  # -sin and sin of a turn about x
            bulge[joint, 1 + SEGMENTS * place:1 + SEGMENTS * (place + 1), 2, joint - 1, entry] = (
                sign * .01 * np.cos(angle))
    return weights, bulge.reshape(24 * n_part, 3, 207)
