"""What may stand in a recipe: one frozen model per section.

Nothing here has a default: a recipe says everything. Only [published] may be absent, and most of its keys.
A section that comes in several kinds is a union told apart by its key `kind`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator

from fastfcn.recipe_values import (
    BelowOne,
    Color,
    Count,
    Counts,
    Dilations,
    FromZero,
    Kernel,
    NotNegative,
    Percent,
    Positive,
    Positives,
    Probability,
    Range,
    Share,
    Size,
    Spread,
    Stage,
    Strides,
    Switch,
    TestSize,
    Words,
)


class Section(BaseModel):
    """A section of a recipe: frozen, every key known, no value of another type (3 may stand for 3.0)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(Section):
    """The data set, and how training images are drawn from it; sizes are (height, width) in pixels."""

    dataset: Words  # a name of the catalogue, or the path of a data set's TOML
    train_split: Words
    val_split: Words
    mean: Color
    std: Spread
    base_size: Size  # the random scale multiplies it
    scale_range: Range
    crop: Size
    max_class_share: Share  # a crop is drawn again while one class fills more of it
    flip: Probability
    distort: Probability  # of each of the four photometric changes


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


class Loss(Section):
    """Cross-entropy of the head, plus weighted losses of the auxiliary head and of class presence."""

    kind: Literal["cross_entropy"]
    mean_over: Literal["all", "labelled"]
    auxiliary: NotNegative
    presence: NotNegative


class Optim(Section):
    """Stochastic gradient descent; lr falls to min_lr as (1 - step / steps) ** power."""

    kind: Literal["sgd"]
    lr: Positive
    head_lr_factor: Positive  # multiplies lr outside the backbone
    momentum: BelowOne
    weight_decay: NotNegative
    power: NotNegative
    min_lr: NotNegative
    warmup_steps: FromZero
    steps: Count
    batch: Count  # images per step, of all devices together


class Eval(Section):
    """How often and at what size images are scored."""

    every: Count
    resize: TestSize
    scales: Positives  # of multi-scale testing
    flip: Switch


class Published(Section):
    """Figures published for this recipe, and where: to compare with, never to compute with."""

    miou: Percent | None = None
    miou_tta: Percent | None = None
    memory_gb: Positive | None = None
    fps: Positive | None = None
    device: Words | None = None
    weights: Words | None = None
    source: Words


Backbone = Annotated[ResNet | Pyramid, Discriminator("kind")]
Neck = Annotated[Jpu | Absent, Discriminator("kind")]
Head = Annotated[Psp | Aspp | Enc | Fcn, Discriminator("kind")]
Auxiliary = Annotated[AuxiliaryFcn | Absent, Discriminator("kind")]
