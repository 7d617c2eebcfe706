"""OpenMMLab's key names and shapes for FastFCN, and random weights determined by these names.

The stored-logits test needs the same weights in two places: where mmsegmentation computed the logits, and
here, where it is not installed. So each tensor is a function of its key alone. The bits come from PCG64,
whose stream NumPy promises to keep (NEP 19), unlike the streams of its distributions; uniform draws and
IEEE arithmetic do the rest.
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np

Shapes = dict[str, tuple[int, ...]]

BLOCKS = (3, 4, 6, 3)  # ResNet-50
RANGES = {
    "running_mean": (-0.2, 0.2),
    "bn3.weight": (0.1, 0.5),  # what a block adds to its input: small, or sixteen sums in a row grow large
    "encoding.1.running_var": (100.0, 300.0),  # of sums over all pixels
    "running_var": (0.5, 1.5),
    "codewords": (-1.0, 1.0),
    "scale": (-0.02, 0.0),  # times squared distances in 512 dimensions: a softmax that is not yet one-hot
    "weight": (0.5, 1.5),  # of a batch norm
    "bias": (-0.2, 0.2),
}
NORM = ("weight", "bias", "running_mean", "running_var")


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{part}": (channels,) for part in NORM} | {f"{name}.num_batches_tracked": ()}


def convolution(name: str, normed: str, out: int, into: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (out, into, kernel, kernel)} | norm(normed, out)


def conv_module(name: str, out: int, into: int, kernel: int) -> Shapes:
    """What mmcv calls a ConvModule: `conv` without bias, then `bn`."""
    return convolution(f"{name}.conv", f"{name}.bn", out, into, kernel)


def stage_shapes(name: str, blocks: int, into: int, width: int) -> Shapes:
    shapes: Shapes = {}
    for block in range(blocks):
        prefix = f"{name}.{block}"
        shapes |= convolution(f"{prefix}.conv1", f"{prefix}.bn1", width, into, 1)
        shapes |= convolution(f"{prefix}.conv2", f"{prefix}.bn2", width, width, 3)
        shapes |= convolution(f"{prefix}.conv3", f"{prefix}.bn3", 4 * width, width, 1)
        if block == 0:
            shapes |= convolution(f"{prefix}.downsample.0", f"{prefix}.downsample.1", 4 * width, into, 1)
        into = 4 * width
    return shapes


def backbone_shapes() -> Shapes:
    stem = ((32, 3), (32, 32), (64, 32))
    shapes: Shapes = {}
    for index, (out, into) in enumerate(stem):
        shapes |= convolution(f"backbone.stem.{3 * index}", f"backbone.stem.{3 * index + 1}", out, into, 3)
    into = 64
    for index, blocks in enumerate(BLOCKS):
        width = 64 * 2**index
        shapes |= stage_shapes(f"backbone.layer{index + 1}", blocks, into, width)
        into = 4 * width
    return shapes


def jpu_shapes() -> Shapes:
    shapes: Shapes = {}
    for index, into in enumerate((512, 1024, 2048)):
        shapes |= conv_module(f"neck.conv_layers.{index}.0", 512, into, 3)
    for index in range(4):
        name = f"neck.dilation_layers.{index}.0"
        shapes |= conv_module(f"{name}.depthwise_conv", 1536, 1, 3)
        shapes |= conv_module(f"{name}.pointwise_conv", 512, 1536, 1)
    return shapes


def psp_shapes(name: str) -> Shapes:
    shapes = conv_module(f"{name}.bottleneck", 512, 4096, 3)
    for index in range(4):
        shapes |= conv_module(f"{name}.psp_modules.{index}.1", 512, 2048, 1)
    return shapes


def aspp_shapes(name: str) -> Shapes:
    shapes = conv_module(f"{name}.bottleneck", 512, 2560, 3)
    shapes |= conv_module(f"{name}.image_pool.1", 512, 2048, 1)
    for index, kernel in enumerate((1, 3, 3, 3)):
        shapes |= conv_module(f"{name}.aspp_modules.{index}", 512, 2048, kernel)
    return shapes


def enc_shapes(name: str, classes: int) -> Shapes:
    shapes = conv_module(f"{name}.bottleneck", 512, 2048, 3)
    shapes |= conv_module(f"{name}.enc_module.encoding_project", 512, 512, 1)
    shapes |= {f"{name}.enc_module.encoding.0.codewords": (32, 512)}
    shapes |= {f"{name}.enc_module.encoding.0.scale": (32,)}
    shapes |= norm(f"{name}.enc_module.encoding.1", 32)
    shapes |= {f"{name}.enc_module.fc.0.weight": (512, 512), f"{name}.enc_module.fc.0.bias": (512,)}
    return shapes | {f"{name}.se_layer.weight": (classes, 512), f"{name}.se_layer.bias": (classes,)}


def head_shapes(head: str, classes: int) -> Shapes:
    name = "decode_head"
    classifier = {f"{name}.conv_seg.weight": (classes, 512, 1, 1), f"{name}.conv_seg.bias": (classes,)}
    match head:
        case "psp":
            return classifier | psp_shapes(name)
        case "aspp":
            return classifier | aspp_shapes(name)
        case "enc":
            return classifier | enc_shapes(name, classes)
        case _:
            raise ValueError(f"no head is called {head}")


def openmmlab_shapes(head: str, classes: int, jpu: bool) -> Shapes:
    """Every key of mmsegmentation 1.2.2's ResNet-50 model with its shape; `jpu` False: a dilated original."""
    auxiliary = {
        "auxiliary_head.conv_seg.weight": (classes, 256, 1, 1),
        "auxiliary_head.conv_seg.bias": (classes,),
    } | conv_module("auxiliary_head.convs.0", 256, 1024, 3)
    neck = jpu_shapes() if jpu else {}
    return backbone_shapes() | neck | head_shapes(head, classes) | auxiliary


def uniform(key: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """float32 draws from [low, high), a function of `key` alone: 24 random bits each."""
    count = math.prod(shape)
    bits = np.random.PCG64(zlib.crc32(key.encode())).random_raw((count + 1) // 2).astype("<u8").view("<u4")
    unit = (bits[:count] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return (unit * np.float32(high - low) + np.float32(low)).reshape(shape)


def convolution_weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform draws of variance 2 / fan-in whose mean over each filter is taken out.

    Maps after a ReLU are mostly positive, so an unbalanced filter responds mainly to their mean:
    after fifty layers all pixels would have similar logits, and a wrong dilation would go unnoticed.
    """
    bound = math.sqrt(6.0 / math.prod(shape[1:]))
    weight = uniform(key, shape, -bound, bound)
    return weight - weight.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)


def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of one OpenMMLab key, a function of the key (and its shape) alone."""
    if key.endswith("num_batches_tracked"):
        return np.array(1, dtype=np.int64)
    if key.endswith("weight") and len(shape) == 4:
        return convolution_weight(key, shape)
    if key.endswith("weight") and len(shape) == 2:
        return uniform(key, shape, -0.15, 0.15)
    low, high = next(bounds for ending, bounds in RANGES.items() if key.endswith(ending))
    return uniform(key, shape, low, high)


def weights(head: str, classes: int, jpu: bool) -> Iterator[tuple[str, np.ndarray]]:
    for key, shape in openmmlab_shapes(head, classes, jpu).items():
        yield key, draw(key, shape)


def image(height: int, width: int) -> np.ndarray:
    """A synthetic image, normalized: float32 (1, 3, height, width), mean about 0, standard deviation about 1.

    Waves of several lengths and directions, and a disc with a hard edge; no two regions alike.
    """
    row, column = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = []
    for channel in range(3):
        wave = np.sin(0.11 * row + 0.05 * (channel + 1) * column)
        wave += np.cos(0.31 * column - 0.17 * row * channel)
        ripple = np.sin(0.0021 * (row - 20.0) * column + channel)
        across, down = column - width * (0.3 + 0.2 * channel), row - height * 0.55
        disc = across**2 + down**2 < (0.22 * height) ** 2
        channels.append(0.6 * wave + 0.7 * ripple + 1.5 * disc - 0.25)
    return np.stack(channels)[None].astype(np.float32)
