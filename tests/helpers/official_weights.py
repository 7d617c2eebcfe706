"""Key names and shapes of the official FastFCN code (wuhuikai/FastFCN), and random weights from these names."""

from collections.abc import Iterator

import numpy as np

from tests.helpers import named_weights
from tests.helpers.named_weights import Shapes, convolution, norm, stage_shapes, uniform

JPU_X = 'neck={kind="jpu_x", width=512, dilations=[1, 2, 4], groups=32, align_corners=true}'
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def classifier(name: str, classes: int, into: int) -> Shapes:
    return {f"{name}.weight": (classes, into, 1, 1), f"{name}.bias": (classes,)}


def group_norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def backbone_shapes(depth: int) -> Shapes:
    shapes = convolution("pretrained.conv1.0", "pretrained.conv1.1", 64, 3, 3)
    shapes |= convolution("pretrained.conv1.3", "pretrained.conv1.4", 64, 64, 3)
    shapes |= convolution("pretrained.conv1.6", "pretrained.bn1", 128, 64, 3)
    into = 128
    for index, blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**index
        shapes |= stage_shapes(f"pretrained.layer{index + 1}", blocks, into, width)
        into = 4 * width
    return shapes | linear("pretrained.fc", 1000, 2048)


def jpu_shapes() -> Shapes:
    shapes: Shapes = {}
    for name, into in (("conv5", 2048), ("conv4", 1024), ("conv3", 512)):
        shapes |= convolution(f"jpu.{name}.0", f"jpu.{name}.1", 512, into, 3)
    for name in (f"jpu.dilation{number}" for number in range(1, 5)):
        shapes |= convolution(f"{name}.0.conv1", f"{name}.0.bn", 1536, 1, 3)
        shapes |= convolution(f"{name}.0.pointwise", f"{name}.1", 512, 1536, 1)
    return shapes


def jpu_x_shapes() -> Shapes:
    shapes: Shapes = {}
    for name, low, high, width in (("jpu.jum_1", 1024, 512, 256), ("jpu.jum_2", 2048, 1024, 512)):
        shapes |= convolution(f"{name}.conv_l.0", f"{name}.conv_l.1", width, low, 3)
        shapes |= convolution(f"{name}.conv_h.0", f"{name}.conv_h.1", width, high, 3)
        for branch in (f"{name}.dilation{number}" for number in range(1, 4)):
            shapes |= {f"{branch}.0.conv1.weight": (2 * width, 1, 3, 3)}
            shapes |= group_norm(f"{branch}.0.bn", 2 * width)
            shapes |= {f"{branch}.0.pointwise.weight": (width, 2 * width, 1, 1)}
            shapes |= group_norm(f"{branch}.1", width)
    return shapes


def psp_shapes(classes: int) -> Shapes:
    shapes: Shapes = {}
    for name in (f"head.conv5.0.conv{number}" for number in range(1, 5)):
        shapes |= convolution(f"{name}.0", f"{name}.1", 512, 2048, 1)
    return shapes | convolution("head.conv5.1", "head.conv5.2", 512, 4096, 3) | classifier("head.conv5.5", classes, 512)


def deeplabv3_shapes(classes: int) -> Shapes:
    shapes: Shapes = {}
    for number, kernel in enumerate((1, 3, 3, 3)):
        shapes |= convolution(f"head.aspp.b{number}.0", f"head.aspp.b{number}.1", 256, 2048, kernel)
    shapes |= convolution("head.aspp.b4.gap.1", "head.aspp.b4.gap.2", 256, 2048, 1)
    shapes |= convolution("head.aspp.project.0", "head.aspp.project.1", 256, 1280, 1)
    return shapes | convolution("head.block.0", "head.block.1", 256, 256, 3) | classifier("head.block.4", classes, 256)


def enc_shapes(classes: int) -> Shapes:
    shapes = convolution("head.conv5.0", "head.conv5.1", 512, 2048, 1)
    shapes |= convolution("head.encmodule.encoding.0", "head.encmodule.encoding.1", 512, 512, 1)
    shapes |= {"head.encmodule.encoding.3.codewords": (32, 512), "head.encmodule.encoding.3.scale": (32,)}
    shapes |= norm("head.encmodule.encoding.4", 32)
    shapes |= linear("head.encmodule.fc.0", 512, 512) | linear("head.encmodule.selayer", classes, 512)
    return shapes | classifier("head.conv6.1", classes, 512)


def official_shapes(head: str, neck: str, classes: int, depth: int = 50) -> Shapes:
    """Every key of a network with its shape; `neck` is "jpu" or "jpu_x"."""
    necks = {"jpu": jpu_shapes, "jpu_x": jpu_x_shapes}
    heads = {"psp": psp_shapes, "deeplabv3": deeplabv3_shapes, "enc": enc_shapes}
    auxiliary = convolution("auxlayer.conv5.0", "auxlayer.conv5.1", 256, 1024, 3)
    auxiliary |= classifier("auxlayer.conv5.4", classes, 256)
    return backbone_shapes(depth) | necks[neck]() | heads[head](classes) | auxiliary


def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of one key, a function of the key (and its shape) alone."""
    if key.endswith("encoding.4.running_var"):  # of sums over all pixels
        return uniform(key, shape, 100.0, 300.0)
    if key.endswith("encoding.1.running_var"):
        return uniform(key, shape, 0.5, 1.5)
    return named_weights.draw(key, shape)


def weights(head: str, neck: str, classes: int, depth: int = 50) -> Iterator[tuple[str, np.ndarray]]:
    for key, shape in official_shapes(head, neck, classes, depth).items():
        yield key, draw(key, shape)
