"""Regressors of the SMPL body from an image: part attention, and a ResNet with a plain head.

After Kocabas et al., "PARE: Part attention regressor for 3D human body estimation", ICCV 2021.
"""
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from common.states import load_tensors
from pare.body import (FLIP_JOINTS, FLIP_PARTS, N_BETAS, matrix_to_rotation_6d, mirrored_rotations,
                       relative_rotations, rotation_6d_to_matrix)
from pare.formats import named, read_weights
from pare.resnet import ResNet, conv

N_PARTS = 24
MEAN, STD = (.485, .456, .406), (.229, .224, .225)  # ImageNet's, RGB, 1 for white


# ---- the heads ----------------------------------------------------------------------------------

def start_at(layer: nn.Linear, values) -> nn.Linear:
    """Initialise a layer with small weights and this bias, so that its output starts near it."""
    nn.init.xavier_uniform_(layer.weight, gain=.1)
    layer.bias.data = torch.as_tensor(values, dtype=torch.float32)
    return layer


IDENTITY = (1., 0., 0., 1., 0., 0.)
UPRIGHT = (1., 0., 0., -1., 0., 0.)  # half a turn about x: the body's y is up, the camera's down
CAMERA = (.9, 0., 0.)


class Regressor(nn.Module):
    """Base of the networks: standardises images and, in evaluation mode, averages over the flip.

    The mean over an image and its mirror image is better: their errors differ.
    """

    def __init__(self):
        super().__init__()
        for name, values in (('mean', MEAN), ('std', STD)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor, gain: Tensor | None = None) -> dict[str, Tensor]:
        """Find the bodies in images (B, 3, R, R), bytes, their channels multiplied by gain (B, 3).

        Returns rotations (B, 24, 3, 3), betas (B, 10), camera (B, 3) as in `project`; with part
        attention also parts (B, 25, H, W), attention (B, 24, H, W), places (B, 24, 2).
        """
        image = self.standardise(image, gain)
        if self.training:
            return self.look(image)
        both = self.look(torch.cat([image, image.flip(3)]))
        one, other = ({key: value.chunk(2)[half] for key, value in both.items()}
                      for half in (0, 1))
        found = {key: (one[key] + back) / 2 for key, back in mirrored_output(other).items()}
        six = matrix_to_rotation_6d(found['rotations'])  # the first two columns of the mean
        return found | {'rotations': rotation_6d_to_matrix(six)}

    def standardise(self, image: Tensor, gain: Tensor | None = None) -> Tensor:
        """Turn bytes into numbers of about mean 0 and standard deviation 1."""
        image = image if gain is None else image * gain[:, :, None, None]
        image = (image.clamp(max=255) - self.mean) / self.std
        return image.contiguous(memory_format=torch.channels_last)  # faster convolutions


def mirrored_output(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the output for images into the output for their mirror images."""
    camera = found['camera'] * found['camera'].new_tensor([1., -1., 1.])
    result = {'rotations': mirrored_rotations(found['rotations']), 'betas': found['betas'],
              'camera': camera}
    if 'places' in found:
        result |= {'parts': found['parts'][:, FLIP_PARTS].flip(3),
                   'attention': found['attention'][:, FLIP_JOINTS].flip(3),
                   'places': found['places'][:, FLIP_JOINTS] * camera.new_tensor([-1., 1.])}
    return result


class Plain(Regressor):
    """ResNet and MLP: the mean of the last map, two layers, then pose, shape and camera."""

    def __init__(self, backbone: ResNet, width: int = 1024):
        super().__init__()
        self.backbone = backbone
        self.mlp = nn.Sequential(nn.Linear(backbone.channels[-1], width), nn.ReLU(inplace=True),
                                 nn.Dropout(.5), nn.Linear(width, width), nn.ReLU(inplace=True),
                                 nn.Dropout(.5))
        self.pose = start_at(nn.Linear(width, 6 * 24), UPRIGHT + 23 * IDENTITY)
        self.shape = start_at(nn.Linear(width, N_BETAS), N_BETAS * (0.,))
        self.camera = start_at(nn.Linear(width, 3), CAMERA)

    def look(self, image: Tensor) -> dict[str, Tensor]:
        x = self.mlp(self.backbone(image)[-1].mean(dim=(2, 3))).float()
        with torch.autocast(image.device.type, enabled=False):
            return {'rotations': rotation_6d_to_matrix(self.pose(x).unflatten(1, (24, 6))),
                    'betas': self.shape(x), 'camera': self.camera(x)}


class Branch(nn.Module):
    """Upsampling by two, 3 x 3 convolution, batch norm, ReLU; `steps` times.

    With `skips` the map of the stage of the same size is added before each convolution, so that
    places are as sharp as in the early stages.
    """

    def __init__(self, channels: list[int], width: int, steps: int, skips: bool):
        super().__init__()
        self.top = nn.Conv2d(channels[-1], width, 1) if skips else nn.Identity()
        self.skips = nn.ModuleList(nn.Conv2d(n, width, 1)
                                   for n in channels[-2:-2 - steps:-1] if skips)
        self.steps = nn.ModuleList(
            nn.Sequential(conv(width if skips or step else channels[-1], width, 3),
                          nn.BatchNorm2d(width), nn.ReLU(inplace=True)) for step in range(steps))

    def forward(self, stages: list[Tensor]) -> Tensor:
        x = self.top(stages[-1])
        for number, step in enumerate(self.steps):
            x = interpolate(x, scale_factor=2, mode='bilinear')
            if self.skips:
                x = x + self.skips[number](stages[-2 - number])
            x = step(x)
        return x


class PartMLPs(nn.Module):
    """One MLP a part or, with `shared`, one for all: (B, 24, sizes[0]) to (B, 24, sizes[-1])."""

    def __init__(self, sizes: list[int], shared: bool):
        super().__init__()
        n = 1 if shared else N_PARTS
        self.weights = nn.ParameterList(torch.randn(n, n_in, n_out) * (2 / n_in) ** .5
                                        for n_in, n_out in zip(sizes, sizes[1:]))
        self.biases = nn.ParameterList(torch.zeros(n, 1, n_out) for n_out in sizes[1:])
        self.weights[-1].data *= .05

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)                                       # (24, B, C)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, x.relu() if number else x, weight.expand(N_PARTS, -1, -1))
        return x.transpose(0, 1)


class Pare(Regressor):
    """Part attention: a 2D branch finds the parts, a 3D branch describes them, and each part's pose
    comes from the features at the part.

    `steps` are those of the 2D and the 3D branch. A small network needs `placed`, which does three
    things. The attention has its own maps, apart from those of the part labels, and the loss
    supervises their expected places. The MLPs and the layers of shape and camera get all places.
    Each MLP predicts a rotation in the camera's frame, as an image shows it, not in the parent's.
    """

    def __init__(self, backbone: ResNet, width: int, steps: tuple[int, int], hidden: list[int],
                 skips: bool, placed: bool, shared: bool):
        super().__init__()
        self.backbone, self.placed, n_places = backbone, placed, 2 * N_PARTS if placed else 2
        self.branch_2d = Branch(backbone.channels, width, steps[0], skips)
        self.branch_3d = Branch(backbone.channels, width, steps[1], skips)
        self.parts = nn.Conv2d(width, 1 + N_PARTS, 1)  # the first is the background
        if placed:
            self.joints = nn.Conv2d(width, N_PARTS, 1)
        self.reduce = nn.Conv2d(width, width // 4, 1)
        self.pose = PartMLPs([width + n_places, *hidden, 6], shared)
        self.register_buffer('start', start_rotations(placed), persistent=False)
        n_all = N_PARTS * (width // 4 + 2 * placed)
        self.shape = start_at(nn.Linear(n_all, N_BETAS), N_BETAS * (0.,))
        self.camera = start_at(nn.Linear(n_all, 3), CAMERA)

    def look(self, image: Tensor) -> dict[str, Tensor]:
        stages = self.backbone(image)
        features_2d, features = self.branch_2d(stages), self.branch_3d(stages)
        parts = self.parts(features_2d)                             # (B, 25, H, W)
        joints = self.joints(features_2d) if self.placed else parts[:, 1:]
        features = torch.cat([features, self.reduce(features)], dim=1)
        with torch.autocast(image.device.type, enabled=False):
            attention = joints.float().flatten(2).softmax(dim=2)    # (B, 24, HW), each sums to 1
            places = attention @ grid(joints)                       # (B, 24, 2)
            attention = attention.unflatten(2, joints.shape[2:])
            pooled = pool(features.float(), attention)              # (B, 24, width + width / 4)
            return {'parts': parts, 'attention': attention} | self.regress(pooled, places)

    def regress(self, pooled: Tensor, places: Tensor) -> dict[str, Tensor]:
        """Find bodies from features (B, 24, width + width / 4) and places (B, 24, 2) of parts."""
        width = self.parts.in_channels
        pooled, small = pooled[..., :width], pooled[..., width:].flatten(1)
        context = places
        if self.placed:
            context = places.flatten(1)[:, None].expand(-1, N_PARTS, -1)
            small = torch.cat([small, places.flatten(1)], dim=1)
        six = self.start + self.pose(torch.cat([pooled, context], dim=2))
        rotations = rotation_6d_to_matrix(six)
        if self.placed:
            rotations = relative_rotations(rotations)
        return {'rotations': rotations, 'betas': self.shape(small), 'camera': self.camera(small),
                'places': places}


def start_rotations(in_camera: bool) -> Tensor:
    """Return six numbers (24, 6) of a body upright before the camera, at rest."""
    return torch.tensor([UPRIGHT, *(23 * [UPRIGHT if in_camera else IDENTITY])])


def grid(maps: Tensor) -> Tensor:
    """Return places (HW, 2) of the pixels of maps (B, C, H, W), x and y from -1 to 1, float32."""
    ys, xs = (torch.arange(n, device=maps.device) * 2 / n + 1 / n - 1 for n in maps.shape[2:])
    return torch.stack(torch.meshgrid(xs, ys, indexing='xy'), dim=-1).flatten(0, 1)


def pool(features: Tensor, attention: Tensor) -> Tensor:
    """Return means (B, 24, C) of features (B, C, h, w), weighted by attention (B, 24, H, W), which
    is summed over the cells of coarser features."""
    ratio = attention.shape[2] // features.shape[2]
    attention = ratio ** 2 * avg_pool2d(attention, ratio)
    return attention.flatten(2) @ features.flatten(2).mT


SIZES = {  # backbone, branches with their steps, MLPs of the parts, plain head
    'small': {'depth': 18, 'width': 16, 'fine': True, 'branch': 32, 'steps': (3, 2),
              'hidden': [128, 128], 'skips': True, 'mlp': 512},
    'full': {'depth': 50, 'width': 64, 'fine': False, 'branch': 256, 'steps': (3, 3),
             'hidden': [256], 'skips': False, 'mlp': 1024}}


def build(kind: str, size: str, placed: bool = True, shared: bool = False,
          **changes) -> nn.Module:
    """Make a regressor, mlp or pare, of one of SIZES with `changes`.

    `placed` is as in Pare, `shared` as in PartMLPs.
    """
    sizes = SIZES[size] | changes
    backbone = ResNet(sizes['depth'], sizes['width'], sizes['fine'])
    if kind == 'mlp':
        return Plain(backbone, sizes['mlp'])
    return Pare(backbone, sizes['branch'], sizes['steps'], sizes['hidden'], sizes['skips'], placed,
                shared)


def load_model(path: Path, device: torch.device) -> tuple[nn.Module, dict]:
    """Load a regressor of pare.training in evaluation mode, and the values saved with it.

    These are `options` and, on the CPU, the `mean_pose` (K, 3) of the training people, or None.
    Also loads the state of an unfinished training. Raises OSError or ValueError, with the file, for
    any other file and for weights that are not finite.
    """
    found = load_tensors(path, 'weights of pare.training')
    with named(path, 'weights of pare.training'):
        if 'parts' in found:  # a state
            found = found['kept'] | {'weights': found['parts']['model']}
        options, weights = found['options'], found.pop('weights')
        model = build(*(options[key] for key in ('kind', 'size', 'placed', 'shared')))
        model.load_state_dict(weights)
        if not all(value.isfinite().all() for value in weights.values()):
            raise ValueError('numbers that are not finite')
    return model.to(device).eval(), found


def load_backbone(model: nn.Module, path: Path) -> None:
    """Put weights in torchvision's names into the backbone; print the missing and unused."""
    state = read_weights(path)
    with named(path, 'weights of this ResNet'):
        missing, unused = model.backbone.load(state)
    print(f'{path}: {len(missing)} weights of the backbone missing {missing[:3]}, {len(unused)} '
          f'not used {unused[:3]}')
