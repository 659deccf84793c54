"""Synthetic people: random postures of random bodies, seen by two cameras."""
import numpy as np

from common.camera import ROOT, project, second_view
from common.skeleton import LIMBS

POSES_PER_PERSON = 20

# Lengths over that of a leg (hip to ankle), in three columns: with joints at the centres of
# rotation, as markers give them; with joints further inside, as in animation rigs; standard
# deviation over people. A person is close to one of the first two columns, or between them.
LENGTHS = {'hip_side': (.1, .08, .008), 'hip_drop': (.1, .03, .015), 'hip_ahead': (.065, 0, .02),
           'thigh': (.5, .49, .015), 'shank': (.5, .51, .015), 'spine': (.28, .31, .015),
           'neck': (.12, .205, .015), 'head': (.325, .325, .02),
           'shoulder_side': (.22, .128, .012), 'shoulder_rise': (.03, -.04, .04),
           'upper_arm': (.34, .305, .015), 'forearm': (.23, .28, .012)}

# Nose, left and right ear of an adult from the top of the head: left, up and ahead in metres.
FACE = np.array([(0, -.145, .11), (.075, -.13, .01), (-.075, -.13, .01)])

# Ranges of motion in degrees: American Academy of Orthopaedic Surgeons, "Joint Motion", 1965.
RANGES = {'hip': (-30, 120), 'abduction': (-30, 45), 'hip_turn': (-45, 45), 'knee': (0, 135),
          'flexion': (-25, 80), 'side': (-35, 35), 'twist': (-45, 45),
          'head': (-45, 45), 'head_side': (-45, 45), 'elevation': (-60, 180),
          'arm_turn': (-90, 70), 'elbow': (0, 150)}

# Thigh from the vertical and knee flexion, in degrees, at tenths of a cycle from heel strike:
# walking after Winter, "Biomechanics and Motor Control of Human Movement", 2009; running after
# Novacheck, "The biomechanics of running", Gait and Posture, 1998. Then flexion of trunk and elbow.
GAITS = (((30, 28, 18, 8, -2, -10, -8, 8, 24, 32), (5, 17, 15, 7, 5, 12, 38, 62, 50, 18), 4, 22),
         ((35, 28, 12, -4, -10, -2, 20, 40, 48, 42), (20, 42, 40, 25, 30, 70, 105, 100, 60, 25),
          10, 80))

# Postures: frequency, six mean angles in degrees, six standard deviations. The angles are thigh
# from the vertical and knee of one leg, the same of the other, tilt of pelvis, flexion of trunk.
LEGS = np.array([
    (6, 4, 8, 4, 8, 0, 3, 8, 8, 8, 8, 6, 8),                # standing
    (2, 20, 40, 20, 40, 10, 15, 12, 15, 12, 15, 8, 12),     # knees bent
    (1, 75, 105, 75, 105, 20, 25, 15, 20, 15, 20, 10, 15),  # squatting
    (1, 85, 85, 85, 85, -5, 10, 12, 20, 12, 20, 8, 12),     # sitting
    (1, 85, 90, -5, 100, 5, 10, 15, 15, 15, 15, 8, 12),     # kneeling on one knee
    (.5, 5, 100, 5, 100, 5, 10, 12, 20, 12, 20, 8, 12),     # kneeling on both
    (1, 10, 15, 10, 15, 45, 35, 12, 12, 12, 12, 20, 15),    # bending down
    (1.5, 45, 50, -15, 25, 5, 10, 15, 20, 15, 20, 8, 12),   # lunging, climbing stairs
    (1.5, 40, 40, 0, 15, -5, 8, 25, 30, 25, 30, 10, 12)])   # kicking, stepping over
# elevation of the upper arm, its plane (0 aside, 90 ahead), inward turn, elbow
ARMS = np.array([
    (5, 10, 30, 20, 20, 12, 50, 25, 15),      # hanging
    (2, 35, 60, 30, 80, 20, 35, 25, 25),      # working before the body
    (1.5, 80, 70, 20, 35, 30, 30, 30, 30),    # reaching out
    (1, 140, 50, 0, 40, 20, 40, 35, 30),      # reaching up
    (1, 85, 10, 0, 20, 20, 20, 35, 20),       # aside
    (1.5, 50, 45, 10, 115, 30, 40, 35, 18),   # at the face, waving
    (.7, 40, -10, 60, 95, 10, 25, 15, 15),    # on the hip
    (1, 35, -80, 10, 30, 20, 25, 25, 25)])    # behind


def sample(n: int, seed: int) -> dict[str, np.ndarray]:
    """Make n synthetic poses in the two-view format of `data.load`, joints as in JOINTS.

    20 poses in a row are of one person; another seed makes other people. Both cameras look at the
    root from anywhere around and 3.5 to 6 m away; mostly they stand a little higher.
    """
    rng = np.random.default_rng(seed)
    person = np.arange(n) // POSES_PER_PERSON
    lengths = {name: metres[person] for name, metres in random_lengths(rng, person[-1] + 1).items()}
    angles = {name: np.clip(angle, *RANGES.get(name, (-180, 180)))
              for name, angle in random_angles(rng, n).items()}
    (turn_1, distance_1), (turn_2, distance_2) = random_cameras(rng, n), random_cameras(rng, n)
    bodies = forward_kinematics(angles, lengths, random_faces(rng.spawn(1)[0], person))
    bodies = bodies @ turn_1.mT / distance_1[:, None, None] + ROOT
    joint_3d, face = bodies[:, :15], bodies[:, 15:]
    rot = turn_2 @ turn_1.mT
    transl = (distance_2 / distance_1)[:, None] * ROOT - rot @ ROOT
    focal_len_1, focal_len_2 = rng.uniform(1.14, 1.155, (2, n, 2))
    data = {'joint_3d': joint_3d, 'joint_2d_1': project(joint_3d, focal_len_1),
            'joint_detected': np.concatenate([face, joint_3d[:, LIMBS]], axis=1),
            'joint_2d_2': project(second_view(joint_3d, rot, transl), focal_len_2),
            'rot': rot.reshape(n, 9), 'transl': transl,
            'focal_len_1': focal_len_1, 'focal_len_2': focal_len_2}
    return {key: array.astype(np.float32) for key, array in data.items()}


def random_lengths(rng, n: int) -> dict[str, np.ndarray]:
    """Draw the lengths (n,) of n people, in metres."""
    leg, inside = rng.normal(.87, .06, n), rng.beta(.25, .25, n)
    return {name: leg * rng.normal((1 - inside) * centre + inside * inner, deviation)
            for name, (centre, inner, deviation) in LENGTHS.items()}


def random_faces(rng, person: np.ndarray) -> np.ndarray:
    """Draw nose, left and right ear (n, 3, 3) of n poses; `person` (n,) tells whose each pose is.

    They are in metres from the top of the head, along its axes: left, up, ahead. Heads turn aside.
    """
    own = rng.normal(0, (.004, .013, .013), (person[-1] + 1, 1, 3))
    return (FACE + own[person]) @ rotation('y', rng.normal(0, 25, len(person))).mT


def random_cameras(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rotations (n, 3, 3) from the room, y up, to cameras, and their distances (n,) in metres.
    """
    turn = rotation('z', rng.normal(0, 2, n)) @ rotation('x', rng.normal(11, 9, n))
    return turn @ rotation('y', rng.uniform(-180, 180, n)), rng.uniform(3.5, 6, n)


def mix_postures(rng, table: np.ndarray, n: int) -> np.ndarray:
    """Draw angles (columns, n) between two rows of a table, mostly close to one of them."""
    weights = table[:, 0] / table[:, 0].sum()
    one, other = table[rng.choice(len(table), (2, n), p=weights), 1:]
    share = rng.beta(.3, .3, (n, 1))
    mean, deviation = np.split((share * one + (1 - share) * other).T, 2)
    return rng.normal(mean, deviation)


def stand(rng, n: int) -> tuple:
    """Draw postures of LEGS and ARMS.

    Returns thigh and knee of both legs (2, 2, n), four angles of both arms (4, 2, n), tilt of the
    pelvis (n,) and flexion of the trunk (n,).
    """
    *legs, tilt, flexion = mix_postures(rng, LEGS, n)
    legs = np.reshape(legs, (2, 2, n))
    legs = np.where(rng.random(n) < .5, legs, legs[::-1])
    arms, both = (mix_postures(rng, ARMS, 2 * n).reshape(4, 2, n) for _ in range(2))
    alike = rng.random(n) < .35
    return legs, np.where(alike, rng.normal(both[:, :1], 8, (4, 2, n)), arms), tilt, flexion


def walk(rng, arms: np.ndarray, thighs, knees, trunk: float, elbow: float) -> tuple:
    """Draw what `stand` draws, at a random phase of a gait; 35 % of the arms stay as given."""
    n = arms.shape[-1]
    phase, stride = rng.random(n) + [[0], [.5]], rng.uniform(.4, 1.2, n)
    thigh, knee = (stride * np.interp(phase, np.arange(10) / 10, curve, period=1)
                   for curve in (thighs, knees))
    legs = rng.normal(np.stack([thigh, knee + 4], axis=1), 6)
    swing = (thigh[::-1] - 10) * rng.uniform(0, 1.5, n)  # with the leg of the other side
    means = [swing, np.full((2, n), 75), np.full((2, n), 15), elbow + .3 * swing.clip(0)]
    swinging = rng.normal(means, np.reshape((6, 12, 18, 15), (4, 1, 1)))
    arms = np.where(rng.random((2, n)) < .65, swinging, arms)
    return legs, arms, rng.normal(3, 5, n), rng.normal(trunk, 7, n)


def random_angles(rng, n: int) -> dict[str, np.ndarray]:
    """Draw the angles of `forward_kinematics`: (n,) for the trunk, (2, n) for left and right."""
    standing = stand(rng, n)
    going = [walk(rng, standing[1], *gait) for gait in GAITS]
    choice = rng.choice(3, n, p=(.5, .3, .2))
    legs, arms, tilt, flexion = (np.choose(choice, part) for part in zip(standing, *going))
    small = {'roll': 5, 'side': 7, 'twist': 9, 'neck': 5, 'head': 14, 'head_side': 7}  # spreads
    small_limb = {'abduction': 7, 'hip_turn': 12, 'shrug': 4, 'protraction': 6}
    angles = {name: rng.normal(0, spread, n) for name, spread in small.items()}
    angles |= {name: rng.normal(0, spread, (2, n)) for name, spread in small_limb.items()}
    angles['neck'] += 3
    angles['head'] -= .3 * flexion  # people look ahead
    angles['abduction'] += 3
    angles['shrug'] += .2 * (arms[0] - 40).clip(0)  # a raised arm takes the shoulder along
    return angles | {'yaw': rng.uniform(-180, 180, n), 'tilt': tilt, 'flexion': flexion,
                     'hip': legs[:, 0] + tilt, 'knee': legs[:, 1], 'elevation': arms[0],
                     'plane': arms[1], 'arm_turn': arms[2], 'elbow': arms[3]}


def rotation(axis: str, degrees: np.ndarray) -> np.ndarray:
    """Return right-handed rotations (..., 3, 3) about an axis by angles (...)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    rows = {'x': ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos)),
            'y': ((cos, zero, sin), (zero, one, zero), (-sin, zero, cos)),
            'z': ((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))}[axis]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def forward_kinematics(angles: dict[str, np.ndarray], lengths: dict[str, np.ndarray],
                       face: np.ndarray) -> np.ndarray:
    """Find joints and face (n, 18, 3) from angles in degrees and lengths in metres.

    y is up, the root is at the origin. In the body's own frame x is left, y up and z ahead; at
    angles of zero all limbs hang down. `face` (n, 3, 3) is relative to the top of the head.
    """
    length = {name: metres[:, None] for name, metres in lengths.items()}

    def turn(axis, name, share=1):
        return rotation(axis, share * angles[name])

    def trunk(share):
        return pelvis @ turn('x', 'flexion', share) @ turn('z', 'side', share) @ turn(
            'y', 'twist', share)

    # frames; column [..., 1] is the direction of y: up, or along a limb to its start
    pelvis = turn('y', 'yaw') @ turn('x', 'tilt') @ turn('z', 'roll')
    chest = trunk(1)
    head_turn = turn('x', 'head') @ turn('z', 'head_side')
    thigh = turn('x', 'hip', -1) @ turn('z', 'abduction') @ turn('y', 'hip_turn')
    shank = thigh @ turn('x', 'knee')
    girdle = turn('z', 'shrug') @ turn('y', 'protraction', -1)
    arm = turn('y', 'plane', -1) @ turn('z', 'elevation') @ turn('y', 'plane')
    arm = arm @ turn('y', 'arm_turn', -1)
    forearm = arm @ turn('x', 'elbow', -1)

    # joints; limbs (2, n, 3), in the frames of pelvis and chest, are all left until `mirror`
    spine = length['spine'] * trunk(.4)[..., 1]
    neck = spine + length['neck'] * (chest @ turn('x', 'neck'))[..., 1]
    head = neck + length['head'] * (chest @ head_turn)[..., 1]
    hip = np.hstack([length['hip_side'], -length['hip_drop'], length['hip_ahead']])
    hip = np.broadcast_to(hip, thigh.shape[:-1])
    knee = hip - length['thigh'] * thigh[..., 1]
    ankle = knee - length['shank'] * shank[..., 1]
    shoulder = length['shoulder_side'] * girdle[..., 0] + length['shoulder_rise'] * girdle[..., 1]
    elbow = shoulder - length['upper_arm'] * arm[..., 1]
    wrist = elbow - length['forearm'] * forearm[..., 1]

    mirror = np.array([[1, 1, 1], [-1, 1, 1]])[:, None, None]
    legs = np.stack([hip, knee, ankle], axis=2) * mirror @ pelvis.mT
    arms = np.stack([shoulder, elbow, wrist], axis=2) * mirror @ chest.mT + neck[:, None]
    trunk_joints = np.stack([spine, neck, head], axis=1)
    face = head[:, None] + face @ (chest @ head_turn).mT
    return np.concatenate([legs[1], legs[0], trunk_joints, *arms, face], axis=1)
