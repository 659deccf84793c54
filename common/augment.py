"""Augmentation: each epoch shows the training poses anew.

Poses are a dictionary of tensors of the same N samples, as `common.poses.as_tensors` makes it.
"""
import torch
from torch import Tensor

from common.camera import NEAR, ROOT, both_frames, project, random_rotations

TILT = 6.            # standard deviation of the pitch of virtual cameras, in degrees
CROSSED = .7         # fraction of the training with crossed poses; 1 is 4 % worse under noise
NOISY = .2           # fraction of the views with noise: 23 % better under noise, 10 % worse without
NOISE = .12          # largest noise, over the standard deviation of all 2D joints
DETECTED = .1        # fraction of synthetic people shown as a detector shows them; with .3 they are
                     # lifted 4 % better from a detector's points, 2 % worse from exact joints
DETECTED_NOISY = .5  # fraction of those with noise


def augment(poses: dict, done: float = 0., bones=(), noise: float = NOISE) -> dict:
    """Return the poses as virtual cameras see them, some as a detector shows them or with noise.

    `done` is the fraction of the training that is over. Below CROSSED, poses are crossed too, if
    the `bones` of the skeleton are given. Without `residual` nothing changes: then no camera
    explains the points.
    """
    if 'residual' not in poses:
        return poses
    # 1. a virtual camera
    view = virtual_view(poses, bones if done < CROSSED else ())
    joint_3d, turn = view['joint_3d'], view['turn']
    projected, noise_share = joint_3d, NOISY
    # 2. a detector: it puts neck, spine, head and root elsewhere; these poses are not crossed
    if 'detected' in poses:
        some = torch.rand(len(turn), 1, 1, device=turn.device) < DETECTED
        centre = poses['detected'][:, -1:]
        points = about_root(poses['detected'][:, :-1], centre, turn)
        joints = about_root(poses['joint_3d'], centre, turn)
        projected = points.where(some, joint_3d)
        joint_3d = joints.where(some, joint_3d)
        noise_share = torch.where(some, DETECTED_NOISY, NOISY)
    # 3. the image: what the camera leaves unexplained stays, and some views get noise
    joint_2d = project(projected, poses['focal_len']) + poses['residual']
    return poses | view | {'joint_2d': add_noise(joint_2d, noise_share, noise),
                           'joint_3d': joint_3d}


def virtual_view(poses: dict, bones) -> dict:
    """Turn the poses, crossed if there are `bones`, at random about the root.

    Returns joint_3d and turn. If poses of two views are crossed, also what both cameras see of
    them: image_1, image_2, joint_2d_2. A pose with a joint too near to a camera stays as it is.
    """
    root = poses['joint_3d'].new_tensor(ROOT)
    turn = random_rotations(len(poses['joint_3d']), TILT, root.device)
    pose = poses['joint_3d'] - root
    crossed = cross(pose, bones) if bones else pose
    view = {'joint_3d': crossed @ turn.mT + root, 'turn': turn}
    in_front = view['joint_3d'][..., 2:] < -NEAR
    if bones and 'image_2' in poses:
        unit = root.new_ones(2)  # focal lengths
        frames = zip('12', both_frames(pose, poses), both_frames(crossed, poses))
        for number, before, after in frames:  # what the camera leaves unexplained stays
            view[f'image_{number}'] = (poses[f'image_{number}'] + project(after, unit)
                                       - project(before, unit))
            in_front &= torch.maximum(before, after)[..., 2:] < -NEAR
        view['joint_2d_2'] = poses['focal_len'][:, None] * view['image_2']
    in_front = in_front.all(dim=1, keepdim=True)
    return {key: value.where(in_front, poses[key]) for key, value in view.items()}


def about_root(joints: Tensor, centre: Tensor, turn: Tensor) -> Tensor:
    """Turn joints (N, J, 3) about a centre (N, 1, 3), and move that to the root."""
    return (joints - centre) @ turn.mT + joints.new_tensor(ROOT)


def add_noise(joint_2d: Tensor, share, noise: float) -> Tensor:
    """Add Gaussian noise of random strength to a `share` of the views (N, J, 2)."""
    chosen, amount = torch.rand(2, len(joint_2d), 1, 1, device=joint_2d.device)
    deviation = (chosen < share) * amount * noise * joint_2d.std()
    return joint_2d + deviation * torch.randn_like(joint_2d)


def cross(pose: Tensor, bones) -> Tensor:
    """Give most poses (N, J, 3) about the root a limb, or more, of another pose.

    Beyond a random joint all bones take the directions of the other pose; lengths stay. `bones` are
    those of `find_bones`. After Li et al., "Cascaded deep monocular 3D human pose estimation with
    evolutionary training data", CVPR 2020.
    """
    # 1. joints to bones: joint = the sum of the bones on its path from the root
    (n_poses, n_joints, _), device = pose.shape, pose.device
    paths = torch.eye(n_joints)  # (joint, bone); a bone has the number of its outer joint
    for parent, child in bones:  # from the root outwards
        paths[child] += paths[parent] if parent < n_joints else 0
    paths = paths.to(device)
    vectors = torch.einsum('jk,nkc->njc', torch.linalg.inv(paths), pose)
    # 2. another pose, turned about the vertical until it is most alike, its bones as long
    other = vectors[torch.randperm(n_poses, device=device)]
    flat, other_flat = (torch.view_as_complex(part[..., [0, 2]]) for part in (vectors, other))
    # the best turn is the phase of their scalar product
    yaw = torch.sgn((flat * other_flat.conj()).sum(dim=1, keepdim=True))
    other[..., [0, 2]] = torch.view_as_real(yaw * other_flat)
    other *= vectors.norm(dim=-1, keepdim=True) / other.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    # 3. swap the bones beyond a random joint, and back to joints
    beyond = paths.mT.bool() & ~torch.eye(n_joints, dtype=bool, device=device)  # (joint, bone)
    swapped = beyond[torch.randint(n_joints, (n_poses, 1), device=device)].mT
    return torch.einsum('jk,nkc->njc', paths, other.where(swapped, vectors))
