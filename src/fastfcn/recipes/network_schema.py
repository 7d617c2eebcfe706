"""The parts of a network in a recipe: one frozen model per kind of backbone, neck, head and auxiliary head."""

from typing import Annotated, Literal

from pydantic import Discriminator

from fastfcn.recipes.values import (
    BelowOne,
    Count,
    Counts,
    Dilations,
    Kernel,
    Section,
    Stage,
    Strides,
    Switch,
    Words,
)


class ResNet(Section):
    """A timm ResNet whose strides and dilations are chosen per stage."""

    kind: Literal["resnet"]
    name: Words
    pretrained: Words  # "openmmlab", "imagenet", "none" or a path
    strides: Strides
    dilations: Dilations
    stride_in: Literal["conv1", "conv2"]  # which of a first block's convolutions holds the stride


class Pyramid(Section):
    """Any timm network with `features_only`, as it is."""

    kind: Literal["pyramid"]
    name: Words
    pretrained: Words


class Absent(Section):
    """A part that is left out."""

    kind: Literal["none"]


class Jpu(Section):
    """Joint Pyramid Upsampling (arXiv:1903.11816, section 3.3)."""

    kind: Literal["jpu"]
    width: Count
    dilations: Counts
    align_corners: Switch


class JpuX(Section):
    """Two joint upsampling stages, one after the other, in FastFCN's code (wuhuikai/FastFCN, `JPU_X`)."""

    kind: Literal["jpu_x"]
    width: Count
    dilations: Counts  # of the first stage; the second has twice these
    groups: Count  # of the group norms
    align_corners: Switch


class Psp(Section):
    """Pyramid pooling (arXiv:1612.01105)."""

    kind: Literal["psp"]
    width: Count
    pools: Counts
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch


class Aspp(Section):
    """Atrous spatial pyramid pooling (arXiv:1706.05587)."""

    kind: Literal["aspp"]
    width: Count
    dilations: Counts
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch


class DeepLabV3(Section):
    """Atrous spatial pyramid pooling, projected, then one more convolution (wuhuikai/FastFCN, `DeepLabV3Head`)."""

    kind: Literal["deeplabv3"]
    width: Count
    dilations: Counts
    project_dropout: BelowOne
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch


class Enc(Section):
    """Context encoding (arXiv:1803.08904)."""

    kind: Literal["enc"]
    width: Count
    codes: Count
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch


class Fcn(Section):
    """Plain convolutions."""

    kind: Literal["fcn"]
    width: Count
    depth: Count
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch


class AuxiliaryFcn(Section):
    """Plain convolutions on one backbone stage, in training only."""

    kind: Literal["fcn"]
    stage: Stage
    width: Count
    depth: Count
    kernel: Kernel
    dropout: BelowOne


Backbone = Annotated[ResNet | Pyramid, Discriminator("kind")]
Neck = Annotated[Jpu | JpuX | Absent, Discriminator("kind")]
Head = Annotated[Psp | Aspp | DeepLabV3 | Enc | Fcn, Discriminator("kind")]
Auxiliary = Annotated[AuxiliaryFcn | Absent, Discriminator("kind")]
