"""What may stand in a recipe: one frozen model per section.

Nothing here has a default: a recipe says everything. Only [published] may be absent, and most of its keys.
A section that comes in several kinds is a union told apart by its key `kind`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator

from fastfcn.recipe_values import (
    Angle,
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
    scale_by: Literal["box", "short_side"]  # fit into the box of base_size, or match its short side
    base_size: Size  # the random scale multiplies it
    scale_range: Range
    interpolation: Literal["opencv", "pillow"]  # whose bilinear and nearest resizing
    rotate: Angle  # degrees, to either side
    crop: Size
    padding: Literal["mean", "black"]  # of what the scaled image lacks: 0 after normalisation, or before it
    max_class_share: Share  # a crop is drawn again while one class fills more of it
    flip: Probability
    distort: Probability  # of each of the four photometric changes
    blur: Probability  # of a Gaussian blur with a radius of up to one pixel


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


class Loss(Section):
    """Cross-entropy of the head, plus weighted losses of the auxiliary head and of class presence."""

    kind: Literal["cross_entropy"]
    mean_over: Literal["all", "labelled"]
    auxiliary: NotNegative
    presence: NotNegative


class Optim(Section):
    """Stochastic gradient descent; lr falls to min_lr as (1 - step / length) ** power, with step = 0, 1, ..."""

    kind: Literal["sgd"]
    lr: Positive
    head_lr_factor: Positive  # multiplies lr outside the backbone
    momentum: BelowOne
    weight_decay: NotNegative
    power: NotNegative
    min_lr: NotNegative
    schedule_end: Literal["last_step", "after_last_step"]  # where min_lr is reached: length is steps - 1 or steps
    warmup_steps: FromZero
    steps: Count
    batch: Count  # images per step, of all devices together
    clip_norm: NotNegative  # the largest L2 norm of all gradients together; 0.0 = no limit
    ema: BelowOne  # decay of an exponential moving average of the weights; 0.0 = none


class WholeImage(Section):
    """Testing on whole images: how often, at what size, and with which views in multi-scale testing."""

    kind: Literal["whole"]
    every: Count
    resize: TestSize
    scales: Positives  # of multi-scale testing
    flip: Switch


class SlidingWindow(Section):
    """Testing by square windows that overlap (wuhuikai/FastFCN, `MultiEvalModule`); lengths in pixels."""

    kind: Literal["sliding"]
    every: Count
    base_size: Count  # the longer side of an image at scale 1.0
    crop: Count  # side of a window
    stride: Count  # from one window to the next
    scales: Positives  # of multi-scale testing; otherwise 1.0
    flip: Switch  # in multi-scale testing


class Published(Section):
    """Figures published for this recipe, and where: to compare with, never to compute with."""

    miou: Percent | None = None
    miou_tta: Percent | None = None
    final_score: Percent | None = None  # mean of pixel accuracy and mIoU on a test set nobody but its keepers can score
    memory_gb: Positive | None = None
    fps: Positive | None = None
    device: Words | None = None
    weights: Words | None = None
    source: Words


Backbone = Annotated[ResNet | Pyramid, Discriminator("kind")]
Neck = Annotated[Jpu | JpuX | Absent, Discriminator("kind")]
Head = Annotated[Psp | Aspp | DeepLabV3 | Enc | Fcn, Discriminator("kind")]
Auxiliary = Annotated[AuxiliaryFcn | Absent, Discriminator("kind")]
Eval = Annotated[WholeImage | SlidingWindow, Discriminator("kind")]
