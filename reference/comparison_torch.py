"""The paper's comparison networks in PyTorch, written from their sources apart from networks/*.h, with the same names of
weights. MobileNetV2 is torchvision's own class. What each is made from: networks/*.h say it."""
import torch
import torchvision
from torch import nn


def conv_norm(inputs, outputs, kernel, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class MobileNetV1(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        channels = int(32 * width)
        layers = [nn.Sequential(*conv_norm(3, channels, 3, 2), nn.ReLU())]
        for outputs, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + 5 * [(512, 1)] + [
                (1024, 2), (1024, 1)]:
            outputs = int(outputs * width)
            layers.append(nn.Sequential(*conv_norm(channels, channels, 3, stride, channels), nn.ReLU(),
                                        *conv_norm(channels, outputs, 1), nn.ReLU()))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


def mobilenet_v2(width, multiple, num_classes):
    # The class multiplies what it gets by the width.
    setting = [[1, max(16, 16 / width), 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1],
               [6, 160, 3, 2], [6, 320, 1, 1]]
    return torchvision.models.MobileNetV2(num_classes=num_classes, width_mult=width, inverted_residual_setting=setting,
                                          round_nearest=multiple)


class ShuffleV1Unit(nn.Module):
    def __init__(self, inputs, outputs, stride, groups, first):
        super().__init__()
        self.groups, self.stride = groups, stride
        middle = outputs // 4
        projected = outputs - inputs if stride == 2 else outputs
        self.branch_main_1 = nn.Sequential(*conv_norm(inputs, middle, 1, groups=1 if first else groups), nn.ReLU(),
                                           *conv_norm(middle, middle, 3, stride, middle))
        self.branch_main_2 = nn.Sequential(*conv_norm(middle, projected, 1, groups=groups))
        self.average = nn.AvgPool2d(3, 2, 1)

    def forward(self, x):
        y = self.branch_main_1(x)
        if self.groups > 1:
            n, c, height, width = y.shape
            y = y.reshape(n, c // self.groups, self.groups, height, width).transpose(1, 2).reshape(n, c, height, width)
        y = self.branch_main_2(y)
        return torch.relu(x + y) if self.stride == 1 else torch.cat([self.average(x), torch.relu(y)], 1)


class ShuffleNetV1(nn.Module):
    def __init__(self, stem, channels, groups, num_classes):
        super().__init__()
        self.first_conv = nn.Sequential(*conv_norm(3, stem, 3, 2), nn.ReLU())
        units, inputs = [], stem
        for repeats in (4, 8, 4):
            for i in range(repeats):
                units.append(ShuffleV1Unit(inputs, channels, 2 if i == 0 else 1, groups, not units))
                inputs = channels
            channels *= 2
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.features = nn.Sequential(*units)
        self.classifier = nn.Sequential(nn.Linear(inputs, num_classes, bias=False))

    def forward(self, x):
        return self.classifier(self.features(self.maxpool(self.first_conv(x))).mean([2, 3]))


def width_of(name):
    return float(name.rsplit("_x", 1)[1].replace("_", "."))


MULTIPLES = {0.15: 2, 0.4: 2, 0.6: 4, 0.75: 4, 1.0: 8, 1.4: 8}
SHUFFLENET_V1 = {0.5: (12, 120), 1.0: (24, 240), 1.5: (24, 360), 2.0: (48, 480)}
XCEPTION = {0.5: (12, 72), 1.0: (24, 144), 1.5: (24, 216), 2.0: (24, 288)}

NAMES = ([f"mobilenet_v1_x{w}" for w in ("0_25", "0_5", "0_75", "1_0")] +
         [f"mobilenet_v2_x{w}" for w in ("0_15", "0_4", "0_6", "0_75", "1_0", "1_4")] +
         [f"{family}_x{w}" for family in ("shufflenet_v1", "xception") for w in ("0_5", "1_0", "1_5", "2_0")])


def crop_of(name):
    """Input side of Table 8."""
    return {"mobilenet_v2_x0_4": 160, "mobilenet_v2_x0_75": 192}.get(name, 224)


def make(name, num_classes=1000):
    width = width_of(name)
    if name.startswith("mobilenet_v1"):
        return MobileNetV1(width, num_classes)
    if name.startswith("mobilenet_v2"):
        return mobilenet_v2(width, MULTIPLES[width], num_classes)
    if name.startswith("shufflenet_v1"):
        return ShuffleNetV1(*SHUFFLENET_V1[width], 3, num_classes)
    return ShuffleNetV1(*XCEPTION[width], 1, num_classes)
