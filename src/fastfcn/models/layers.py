"""The one block all parts are made of, and its initial weights."""

from torch import nn


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, and ReLU unless `activate` is false; size-preserving padding."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1, groups: int = 1, activate: bool = True
    ):
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)
        if activate:
            self.relu = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")


def classifier(inputs: int, classes: int) -> nn.Conv2d:
    """The last 1x1 convolution; starts near zero so that all classes begin equally likely."""
    layer = nn.Conv2d(inputs, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
