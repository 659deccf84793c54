"""Two views of the same people: check them, and normalise them to learn from."""
from itertools import chain, permutations

import numpy as np

from common.axes import find_sign, with_signs, wrong_people
from common.camera import face_root, ray_angle, ray_gap, spread, triangulate

TWO_VIEWS = ('joint_2d_1', 'joint_2d_2', 'rot', 'transl', 'focal_len_1', 'focal_len_2')
LEAST_ANGLE = 2.  # degrees between the views of a sample
MOST_GAP = .2     # between the rays of a joint, over the spread of the joints


@np.errstate(over='ignore', invalid='ignore')  # points at 1e20, which find_camera drops
def prepare_views(data: dict) -> tuple[dict, str]:
    """Normalise two-view data: signs, unit of transl, camera 2 facing the root.

    Takes the keys of TWO_VIEWS and any other; never reads joint_3d. Returns the samples whose rays
    give depth, with their `row` in the file, their `triangulated` joints (N, J, 3) and camera 2 as
    in `face_root`, and a summary. Raises ValueError for views that are alike, that do not belong
    together, or whose unit of length varies.
    """
    # 1. the signs of the axes with which rays meet, and the depth where they do, in some samples
    some = {key: data[key][::len(data['rot']) // 4000 + 1] for key in TWO_VIEWS}
    sign, gap, depths, wrong = meeting(some)
    data = with_signs(data, sign) | {'row': np.arange(len(data['rot']))}
    # 2. refuse views that give no depth; drop a few such samples
    angle = ray_angle(data)
    check_views(some, np.median(angle), depths, wrong)
    keep = angle > LEAST_ANGLE
    data = {key: array[keep] for key, array in data.items()}
    # 3. divide transl by the depth of the joints, so that the root is at distance 1
    unit = np.median(depths)
    unit = 1 if abs(unit - 1) < .05 else unit
    data['transl'] = data['transl'] / np.float32(unit)
    # 4. joints are where the rays meet, and camera 2 looks at the root
    data = face_root(data | {'triangulated': triangulate(data)})

    summary = (f'{np.median(angle):.0f} degrees to each other, rays meet within {gap:.1g} of the '
               f'spread of the joints (medians), signs {sign[0]:+} {sign[1]:+}')
    summary += f'; transl divided by its unit, {unit:.4g}' if unit != 1 else ''
    summary += f'; {(~keep).sum()} samples of nearly parallel rays left out' * (not keep.all())
    return data, summary


def meeting(views: dict) -> tuple[np.ndarray, float, np.ndarray, str]:
    """Find where the rays of the two views meet.

    Returns the signs of the axes, the median gap between rays over the spread of the joints, the
    mean depth (N,) at which rays meet, and what is wrong with that, if anything.
    """
    sign = find_sign(views)
    views = with_signs(views, sign)
    joint_3d = triangulate(views)
    depths = -joint_3d[..., 2].mean(axis=1)
    image = views['joint_2d_1'] / views['focal_len_1'][:, None]
    size = spread(image) * abs(np.median(depths))
    gap = np.median(ray_gap(views)) / max(size, 1e-12)
    if gap > MOST_GAP:
        wrong = f'rays that meet only within {gap:.2g} times the spread of the joints (median)'
    elif not np.median(depths) > 0:
        wrong = 'rays that meet behind the camera or in it'
    else:
        wrong = wrong_people(joint_3d / np.float32(np.median(depths)), sign)
    return sign, gap, depths, wrong


def check_views(views: dict, angle: float, depths: np.ndarray, wrong: str) -> None:
    """Raise ValueError for views that give no depth, do not meet, or are of varying unit."""
    low, middle, high = np.quantile(depths, (.25, .5, .75))
    if angle <= LEAST_ANGLE:
        raise ValueError(f'keys rot, transl: found rays at {angle:.2g} degrees to each other '
                         f'(median), expected more than {LEAST_ANGLE:g}: rays so nearly parallel '
                         f'give no depth')
    if wrong:
        raise ValueError(f'keys rot, transl: found {wrong}, expected V2 = R V1 + t'
                         f'{other_reading(views)}')
    if high - low > .1 * middle:
        raise ValueError(f'key transl: found joints {low:.3g} to {high:.3g} from the camera (half '
                         f'of the samples), expected in each sample its root distance as unit')


# other conventions for rot (N, 3, 3) and transl (N, 3), found in users' files
DOWN = np.float32([1, -1, -1])
READINGS = {
    'rot transposed': lambda rot, transl: (rot.mT, transl),
    'transl negated': lambda rot, transl: (rot, -transl),
    'rot and transl from the frame of OpenCV (y and z times -1)':
        lambda rot, transl: (DOWN[:, None] * rot * DOWN, DOWN * transl),
    'rot and transl from view 2 to view 1':
        lambda rot, transl: (rot.mT, -np.vecmat(transl, rot)),
    'transl from view 2 to view 1': lambda rot, transl: (rot, -np.matvec(rot, transl))}


def other_reading(views: dict) -> str:
    """Name one or two READINGS with which the views would fit, if any."""
    for names in chain(permutations(READINGS, 1), permutations(READINGS, 2)):
        rot, transl = views['rot'].reshape(-1, 3, 3), views['transl']
        for name in names:
            rot, transl = READINGS[name](rot, transl)
        sign, gap, _, wrong = meeting(views | {'rot': rot.reshape(-1, 9), 'transl': transl})
        if not wrong and sign[0] > 0:  # propose no convention in which x points left
            return f'; with {" and ".join(names)} rays would meet within {gap:.1g}'
    return ''
