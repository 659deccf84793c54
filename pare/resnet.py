"""The backbone: a ResNet (He et al., CVPR 2016) with the names of torchvision, so that its weights
fit."""
from torch import Tensor, nn


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
    """Return the identity, or a layer that brings the input to the shape of the output."""
    if n_in == n_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(conv(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))


class ResNet(nn.Module):
    """ResNet-18 or 50 up to its last map, of R / 32 pixels a side.

    `width` is the number of channels of the first stage, 64 in the original. For small images
    `fine` begins with a 3 x 3 convolution and no pooling: the last map then has R / 16 pixels a
    side. `channels` are those of the four stages.
    """

    def __init__(self, depth: int = 50, width: int = 64, fine: bool = False):
        super().__init__()
        block, counts = {18: (BasicBlock, (2, 2, 2, 2)), 50: (Bottleneck, (3, 4, 6, 3))}[depth]
        self.conv1, self.bn1 = conv(3, width, 3 if fine else 7, 2), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if fine else nn.MaxPool2d(3, 2, 1)
        self.channels = [block.expansion * (width << stage) for stage in range(4)]
        n_in = width
        for stage, (count, stride) in enumerate(zip(counts, (1, 2, 2, 2))):
            layers = []
            for number in range(count):
                layers.append(block(n_in, width << stage, 1 if number else stride))
                n_in = self.channels[stage]
            setattr(self, f'layer{stage + 1}', nn.Sequential(*layers))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps of the four stages, each half as wide as the one before."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            stages.append(x)
        return stages

    def load(self, state: dict) -> tuple[list[str], list[str]]:
        """Load weights in torchvision's names; weights outside the backbone, as fc, are unused.

        Returns the missing and the unused names. Raises RuntimeError or ValueError for weights of
        another shape or depth, or not finite.
        """
        missing, unused = self.load_state_dict(state, strict=False)
        for name in unused:
            if name.startswith('layer'):
                raise ValueError(f'{name}: found a ResNet of more layers, expected as many as '
                                 f'this one has')
        for name, weights in self.state_dict().items():
            if not weights.isfinite().all():
                raise ValueError(f'{name}: found numbers that are not finite')
        return missing, unused
