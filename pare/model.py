"""Regressors of the SMPL body from an image: part attention, and a ResNet with a plain head.

After Kocabas et al., "PARE: Part attention regressor for 3D human body estimation", ICCV 2021; the
ResNet is of He et al., CVPR 2016, with the names of torchvision, so that its weights fit.
"""
import torch
from torch import Tensor, nn

from pare.body import N_BETAS, rotation_6d_to_matrix

N_PARTS = 24


# ---- the backbone -------------------------------------------------------------------------------

def conv(n_in: int, n_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and the input."""

    expansion = 1

    def __init__(self, n_in: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(n_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(n_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 with the stride, 1 x 1, and the input."""

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(n_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(n_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(n_in: int, n_out: int, stride: int) -> nn.Module:
    """The input as it is, or brought to the shape of the output."""
    if n_in == n_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(conv(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))


class ResNet(nn.Module):
    """ResNet-18 or 50 up to its last feature map (B, C, R / 32, R / 32).

    `width` is the channels of the first stage, 64 in the original; with last_stride 1 the map is
    (R / 16, R / 16).
    """

    def __init__(self, depth: int = 50, width: int = 64, last_stride: int = 2):
        super().__init__()
        block, counts = {18: (BasicBlock, (2, 2, 2, 2)), 50: (Bottleneck, (3, 4, 6, 3))}[depth]
        self.conv1, self.bn1 = conv(3, width, 7, 2), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        n_in = width
        for stage, (count, stride) in enumerate(zip(counts, (1, 2, 2, last_stride))):
            layers = []
            for number in range(count):
                layers.append(block(n_in, width << stage, 1 if number else stride))
                n_in = block.expansion * (width << stage)
            setattr(self, f'layer{stage + 1}', nn.Sequential(*layers))
        self.n_features = n_in
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def load(self, state: dict) -> tuple[list[str], list[str]]:
        """Takes weights in torchvision's names, bare, prefixed, or within a checkpoint.

        What belongs to no backbone, such as fc, is left. Returns the missing and the unused names.
        Raises ValueError where weights are of another shape or none fits.
        """
        for key in ('state_dict', 'model', 'teacher', 'student'):
            state = state[key] if isinstance(state.get(key), dict) else state
        own, found = self.state_dict(), {}
        for name, weights in state.items():
            short = next((name[len(prefix):] for prefix in PREFIXES if name.startswith(prefix)
                          and name[len(prefix):] in own), None)
            if short is not None:
                if own[short].shape != weights.shape:
                    raise ValueError(f'{name}: found shape {tuple(weights.shape)}, expected '
                                     f'{tuple(own[short].shape)} of this ResNet')
                found[short] = name
        if not found:
            raise ValueError('found no weights of a ResNet, expected names such as conv1.weight')
        unused = sorted(set(state) - set(found.values()))
        deeper = [name for name in unused if name.startswith('layer')]
        if deeper:
            raise ValueError(f'{deeper[0]}: found a ResNet of more layers, expected one as deep as '
                             f'this')
        self.load_state_dict({short: state[name] for short, name in found.items()}, strict=False)
        return sorted(set(own) - set(found)), unused


PREFIXES = ('', 'module.', 'backbone.', 'module.backbone.', 'encoder.', 'module.encoder.',
            'model.backbone.')


# ---- the heads ----------------------------------------------------------------------------------

def start_at(layer: nn.Linear, values) -> nn.Linear:
    """The layer with small weights and these values as bias, so that it begins there."""
    nn.init.xavier_uniform_(layer.weight, gain=.01)
    layer.bias.data = torch.as_tensor(values, dtype=torch.float32)
    return layer


IDENTITY = (1., 0., 0., 1., 0., 0.)
UPRIGHT = (1., 0., 0., -1., 0., 0.)  # half a turn about x: the body's y is up, the camera's down
CAMERA = (.9, 0., 0.)


class Plain(nn.Module):
    """ResNet and MLP: the mean of the feature map, two layers, then pose, shape and camera."""

    def __init__(self, backbone: ResNet, width: int = 1024):
        super().__init__()
        self.backbone = backbone
        self.mlp = nn.Sequential(nn.Linear(backbone.n_features, width), nn.ReLU(inplace=True),
                                 nn.Dropout(.5), nn.Linear(width, width), nn.ReLU(inplace=True),
                                 nn.Dropout(.5))
        self.pose = start_at(nn.Linear(width, 6 * 24), UPRIGHT + 23 * IDENTITY)
        self.shape = start_at(nn.Linear(width, N_BETAS), N_BETAS * (0.,))
        self.camera = start_at(nn.Linear(width, 3), CAMERA)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.mlp(self.backbone(image).mean(dim=(2, 3)))
        return {'rotations': rotation_6d_to_matrix(self.pose(x).unflatten(1, (24, 6))),
                'betas': self.shape(x), 'camera': self.camera(x)}


class Branch(nn.Sequential):
    """Upsampling by two, 3 x 3 convolution, batch norm, ReLU; `steps` times."""

    def __init__(self, n_in: int, width: int, steps: int):
        super().__init__(*(layer for step in range(steps) for layer in (
            nn.Upsample(scale_factor=2, mode='bilinear'), conv(width if step else n_in, width, 3),
            nn.BatchNorm2d(width), nn.ReLU(inplace=True))))


class PartMLPs(nn.Module):
    """An MLP of its own for each part, or one for all: (B, 24, C) to (B, 24, 6)."""

    def __init__(self, n_in: int, width: int, shared: bool = False):
        super().__init__()
        n = 1 if shared else N_PARTS
        self.weight_1 = nn.Parameter(torch.randn(n, n_in, width) * (2 / n_in) ** .5)
        self.bias_1 = nn.Parameter(torch.zeros(n, 1, width))
        self.weight_2 = nn.Parameter(torch.randn(n, width, 6) * .01 / width ** .5)
        self.bias_2 = nn.Parameter(torch.tensor([UPRIGHT, *(23 * [IDENTITY])])[:, None])

    def forward(self, x: Tensor) -> Tensor:
        x = (x.transpose(0, 1) @ self.weight_1 + self.bias_1).relu()  # (24, B, width)
        return (x @ self.weight_2 + self.bias_2).transpose(0, 1)


class Pare(nn.Module):
    """Part attention: a 2D branch finds the parts, a 3D branch describes them, and each part's pose
    comes from the features where the part is.

    The maps are four times smaller than the image. `shared` gives all parts one MLP.
    """

    def __init__(self, backbone: ResNet, width: int = 256, steps: int = 3, shared: bool = False):
        super().__init__()
        self.backbone = backbone
        self.branch_2d = Branch(backbone.n_features, width, steps)
        self.branch_3d = Branch(backbone.n_features, width, steps)
        self.parts = nn.Conv2d(width, 1 + N_PARTS, 1)  # the first is the background
        self.reduce = nn.Conv2d(width, width // 4, 1)
        self.pose = PartMLPs(width + 2, width, shared)
        self.shape = start_at(nn.Linear(N_PARTS * width // 4, N_BETAS), N_BETAS * (0.,))
        self.camera = start_at(nn.Linear(N_PARTS * width // 4, 3), CAMERA)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.backbone(image)                                    # (B, C, h, w)
        parts, features = self.parts(self.branch_2d(x)), self.branch_3d(x)
        attention = parts[:, 1:].flatten(2).softmax(dim=2)          # (B, 24, HW), each sums to 1
        pooled = attention @ features.flatten(2).mT                 # (B, 24, width)
        small = attention @ self.reduce(features).flatten(2).mT     # (B, 24, width / 4)
        where = attention @ self.grid(parts)                        # (B, 24, 2)
        six = self.pose(torch.cat([pooled, where], dim=2))
        return {'rotations': rotation_6d_to_matrix(six), 'betas': self.shape(small.flatten(1)),
                'camera': self.camera(small.flatten(1)), 'parts': parts,
                'attention': attention.unflatten(2, parts.shape[2:])}

    @staticmethod
    def grid(maps: Tensor) -> Tensor:
        """Places (HW, 2) of the pixels of maps (B, C, H, W), x and y, from -1 to 1."""
        ys, xs = (torch.arange(n, device=maps.device, dtype=maps.dtype) * 2 / n + 1 / n - 1
                  for n in maps.shape[2:])
        return torch.stack(torch.meshgrid(xs, ys, indexing='xy'), dim=-1).flatten(0, 1)


SIZES = {  # of the backbone; channels of a branch, its steps; nodes of the plain head
    'small': {'depth': 18, 'width': 16, 'last_stride': 1, 'branch': 32, 'steps': 2, 'mlp': 512},
    'full': {'depth': 50, 'width': 64, 'last_stride': 2, 'branch': 256, 'steps': 3, 'mlp': 1024}}


def build(kind: str, size: str, shared: bool = False) -> nn.Module:
    """The regressor of a kind, mlp or pare, and of one of SIZES."""
    sizes = SIZES[size]
    backbone = ResNet(sizes['depth'], sizes['width'], sizes['last_stride'])
    if kind == 'mlp':
        return Plain(backbone, sizes['mlp'])
    return Pare(backbone, sizes['branch'], sizes['steps'], shared)
