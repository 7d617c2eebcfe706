"""The schema of a recipe: types of its values, then one frozen model per section.

There are no defaults: every key must be written. Only [published] may be absent, and most of its keys.
A section of several kinds is a union, discriminated by its key `kind`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError


class Section(BaseModel):
    """A section of a recipe: frozen, every key known, no value of another type (3 may stand for 3.0)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def allowed(words: str) -> WrapValidator:
    """Make every failure of a kind of value say, in words, what would have been allowed."""

    def check(value, validate):
        try:
            return validate(value)
        except (ValidationError, ValueError):
            raise PydanticCustomError("allowed", "{allowed}", {"allowed": words}) from None

    return WrapValidator(check)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("even")
    return value


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("low > high")
    return pair


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Counted = Annotated[int, Field(ge=1)]

Switch = Annotated[bool, allowed("true or false")]
Words = Annotated[str, Field(min_length=1), allowed("a text in quotes")]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], allowed("a list of texts in quotes")]
Count = Annotated[_Counted, allowed("a whole number of at least 1")]
Counts = Annotated[tuple[_Counted, ...], Field(min_length=1), allowed("a list of whole numbers of at least 1")]
FromZero = Annotated[int, Field(ge=0, lt=2**32), allowed("a whole number from 0 to 4294967295")]
Kernel = Annotated[_Counted, AfterValidator(_odd), allowed("an odd whole number of at least 1")]
Stage = Annotated[int, Field(ge=0, le=3), allowed("a stage from 0 to 3 (strides 4, 8, 16, 32)")]
Positive = Annotated[_Positive, allowed("a number above 0")]
Positives = Annotated[tuple[_Positive, ...], Field(min_length=1), allowed("a list of numbers above 0")]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), allowed("a number of at least 0")]
Probability = Annotated[float, Field(ge=0, le=1), allowed("a probability from 0 to 1")]
Angle = Annotated[float, Field(ge=0, le=180), allowed("degrees from 0 to 180")]
BelowOne = Annotated[float, Field(ge=0, lt=1), allowed("a number from 0 to below 1")]
Share = Annotated[float, Field(gt=0, le=1), allowed("a share above 0 and up to 1 (1.0 accepts every crop)")]
Percent = Annotated[float, Field(ge=0, le=100), allowed("a percentage from 0 to 100")]
Size = Annotated[tuple[_Counted, _Counted], allowed("[height, width], whole numbers of at least 1")]
Range = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered), allowed("[low, high], above 0")]
Color = Annotated[tuple[_Finite, _Finite, _Finite], allowed("[red, green, blue], three numbers")]
Spread = Annotated[tuple[_Positive, _Positive, _Positive], allowed("[red, green, blue], three numbers above 0")]
_Stride = Annotated[int, Field(ge=1, le=2)]
Strides = Annotated[tuple[_Stride, _Stride, _Stride, _Stride], allowed("four whole numbers, each 1 or 2")]
Dilations = Annotated[
    tuple[_Counted, _Counted, _Counted, _Counted], allowed("four whole numbers of at least 1, one per stage")
]
TestSize = Annotated[
    tuple[_Counted, _Counted] | Literal["none"],
    allowed('[height, width], whole numbers of at least 1, or "none" (the image\'s own size)'),
]


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
    cat_max_ratio: Share  # a crop is redrawn (up to 10 times) while one class fills more of it
    flip: Probability
    photometric_distortion: Probability  # of each of brightness, contrast, saturation and hue
    blur: Probability  # of a Gaussian blur with a radius of up to one pixel


class ResNet(Section):
    """A timm ResNet whose strides and dilations are chosen per stage."""

    kind: Literal["resnet"]
    name: Words
    pretrained: Words  # "openmmlab", "imagenet", "none" or a path
    strides: Strides
    dilations: Dilations
    style: Literal["pytorch", "caffe"]  # bottlenecks have their stride in the 3x3, or in the first 1x1 convolution


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
    codewords: Count
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch
    se_loss_weight: NotNegative  # of the semantic encoding (SE) loss


class Fcn(Section):
    """Plain convolutions."""

    kind: Literal["fcn"]
    width: Count
    depth: Count
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch


class Ocr(Section):
    """Object-contextual representations (arXiv:1909.11065)."""

    kind: Literal["ocr"]
    width: Count
    key_width: Count  # channels of the attention's queries, keys and values
    kernel: Kernel
    dropout: BelowOne
    align_corners: Switch
    regions_loss_weight: NotNegative  # of the pixel loss of the coarse logits


class UPerNet(Section):
    """Pyramid pooling and a feature pyramid over all four stages (arXiv:1807.10221); needs neck.kind = "none"."""

    kind: Literal["upernet"]
    width: Count
    pools: Counts
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
    loss_weight: NotNegative


class CrossEntropy(Section):
    """Cross-entropy."""

    kind: Literal["cross_entropy"]
    mean_over: Literal["all", "labeled"]


class WeightedCrossEntropy(Section):
    """Cross-entropy with a weight for each class, for data in which some are rare."""

    kind: Literal["weighted_cross_entropy"]
    weights: Positives  # one for each class, in the order of the data set's
    mean_over: Literal["all", "labeled"]


class HardPixels(Section):
    """Cross-entropy of each image's hard pixels alone (online hard example mining, arXiv:1604.03540)."""

    kind: Literal["ohem"]
    threshold: Share  # hard pixels: those whose true class has a lower probability,
    min_kept: Share  # and at least this share of the image's labeled pixels


class Dice(Section):
    """1 - soft Dice of each image (arXiv:1606.04797), beside cross-entropy."""

    kind: Literal["dice"]
    dice: Positive
    cross_entropy: NotNegative
    mean_over: Literal["all", "labeled"]  # of cross-entropy


class Lovasz(Section):
    """Lovász-softmax of each image (arXiv:1705.08790), beside cross-entropy."""

    kind: Literal["lovasz"]
    lovasz: Positive
    cross_entropy: NotNegative
    mean_over: Literal["all", "labeled"]  # of cross-entropy


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
Head = Annotated[Psp | Aspp | DeepLabV3 | Enc | Fcn | Ocr | UPerNet, Discriminator("kind")]
Auxiliary = Annotated[AuxiliaryFcn | Absent, Discriminator("kind")]
Loss = Annotated[CrossEntropy | WeightedCrossEntropy | HardPixels | Dice | Lovasz, Discriminator("kind")]
Eval = Annotated[WholeImage | SlidingWindow, Discriminator("kind")]
