"""The schema of a recipe: types of its values, then one frozen model per section.

There are no defaults: every key must be written. Only [published] may be absent, and most of its keys, and
`data.bands`; and [optim] has either `steps` or `epochs`. A section of several kinds is a union, discriminated by its
key `kind`.
"""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError

Kind = TypeVar("Kind", bound=str)


class Section(BaseModel):
    """A section of a recipe: frozen, without unknown keys, types are strict (but 3 is accepted for 3.0)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def allowed(description: str) -> WrapValidator:
    """Replace the message of every failed validation of a type by `description`, which says what is allowed."""

    def check(value, validate):
        try:
            return validate(value)
        except (ValidationError, ValueError):
            raise PydanticCustomError("allowed", "{allowed}", {"allowed": description}) from None

    return WrapValidator(check)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("even")
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("repeated")
    return values


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("low > high")
    return pair


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_PositiveInt = Annotated[int, Field(ge=1, lt=2**32)]

Bool = Annotated[bool, allowed("true or false")]
Text = Annotated[str, Field(min_length=1), allowed("a string in quotes")]
TextList = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], allowed("a list of strings in quotes")]
ClassNames = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1), allowed("a list of class names in quotes")
]
PositiveInt = Annotated[_PositiveInt, allowed("an integer from 1 to 4294967295")]
PositiveInts = Annotated[
    tuple[_PositiveInt, ...], Field(min_length=1), allowed("a list of integers from 1 to 4294967295")
]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**32), allowed("an integer from 0 to 4294967295")]
Kernel = Annotated[_PositiveInt, AfterValidator(_odd), allowed("an odd integer of at least 1")]
Stages = Annotated[int, Field(ge=1, le=4), allowed("a number of stages from 1 to 4")]
Stage = Annotated[int, Field(ge=0, le=3), allowed("a stage from 0 to 3 (strides 4, 8, 16, 32)")]
BoundaryWidth = Annotated[int, Field(ge=1, le=64), allowed("a number of pixels from 1 to 64")]
Positive = Annotated[_Positive, allowed("a number above 0")]
Positives = Annotated[tuple[_Positive, ...], Field(min_length=1), allowed("a list of numbers above 0")]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), allowed("a number of at least 0")]
Probability = Annotated[float, Field(ge=0, le=1), allowed("a probability from 0 to 1")]
Magnitude = Annotated[float, Field(ge=0, le=10), allowed("a magnitude from 0 to 10")]
Operations = Annotated[int, Field(ge=1, le=9), allowed("a number of operations from 1 to 9")]
Angle = Annotated[float, Field(ge=0, le=180), allowed("degrees from 0 to 180")]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1), allowed("a number from 0 to below 1")]
Fraction = Annotated[float, Field(gt=0, le=1), allowed("a fraction above 0, at most 1")]
Percent = Annotated[float, Field(ge=0, le=100), allowed("a percentage from 0 to 100")]
Size = Annotated[tuple[_PositiveInt, _PositiveInt], allowed("[height, width], integers of at least 1")]
Range = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered), allowed("[low, high], above 0")]
# One number per channel: how many there must be is checked by `validation.rule_lines`.
Means = Annotated[tuple[_Finite, ...], allowed("[red, green, blue], three numbers, or one per band")]
Stds = Annotated[tuple[_Positive, ...], allowed("[red, green, blue], three numbers above 0, or one per band")]
BandNames = Annotated[
    Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    | Annotated[tuple[_PositiveInt, ...], Field(min_length=1)],
    AfterValidator(_distinct),
    allowed('a list of band names in quotes, or of band numbers from 1, such as ["red", "nir"] or [3, 4], each once'),
]
_Stride = Annotated[int, Field(ge=1, le=2)]
Strides = Annotated[tuple[_Stride, _Stride, _Stride, _Stride], allowed("four integers, each 1 or 2")]
Dilations = Annotated[
    tuple[_PositiveInt, _PositiveInt, _PositiveInt, _PositiveInt], allowed("four integers of at least 1, one per stage")
]
_BelowOne = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[_BelowOne, _BelowOne], allowed("two numbers from 0 to below 1")]
TestSize = Annotated[
    tuple[_PositiveInt, _PositiveInt] | Literal["none"],
    allowed('[height, width], integers of at least 1, or "none" (the image\'s own size)'),
]


class Data(Section):
    """The dataset and its augmentation in training; sizes are (height, width) in pixels."""

    dataset: Text  # a name of the catalog, or the path of a dataset's TOML file
    train_split: Text
    val_split: Text
    bands: BandNames | None = None  # of the dataset's files, in this order; without: RGB images of 8 bits
    mean: Means
    std: Stds
    scale_by: Literal["box", "short_side"]  # fit into the box of base_size, or match its short side
    base_size: Size  # the random scale multiplies it
    scale_range: Range
    interpolation: Literal["opencv", "pillow"]  # whose implementation of bilinear and nearest resizing
    rotate: Angle  # maximum angle in degrees, in both directions
    crop: Size
    padding: Literal["mean", "black"]  # fill value where the scaled image is smaller than the crop
    cat_max_ratio: Fraction  # a crop is redrawn (up to 10 times) while one class fills more of it
    flip: Probability
    photometric_distortion: Probability  # of each of brightness, contrast, saturation and hue
    blur: Probability  # of a Gaussian blur with a radius of up to one pixel


class ResNet(Section):
    """A timm ResNet with the stride and dilation of each stage set."""

    kind: Literal["resnet"]
    name: Text
    pretrained: Text  # "openmmlab", "imagenet", "none" or a path
    strides: Strides
    dilations: Dilations
    style: Literal["pytorch", "caffe"]  # bottlenecks have their stride in the 3x3, or in the first 1x1 convolution


class Pyramid(Section):
    """Any timm network with `features_only`, unchanged."""

    kind: Literal["pyramid"]
    name: Text
    pretrained: Text


class Disabled(Section):
    """A part that the network does not have, or something that training does not do."""

    kind: Literal["none"]


class Jpu(Section):
    """Joint Pyramid Upsampling (arXiv:1903.11816, section 3.3)."""

    kind: Literal["jpu"]
    width: PositiveInt
    dilations: PositiveInts
    align_corners: Bool


class JpuX(Section):
    """Two joint upsampling stages in sequence (`JPU_X` of wuhuikai/FastFCN)."""

    kind: Literal["jpu_x"]
    width: PositiveInt
    dilations: PositiveInts  # of the first stage; the second has twice these
    groups: PositiveInt  # of the group norms
    align_corners: Bool


class Psp(Section):
    """Pyramid pooling (arXiv:1612.01105)."""

    kind: Literal["psp"]
    width: PositiveInt
    pools: PositiveInts
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool


class Aspp(Section):
    """Atrous spatial pyramid pooling (arXiv:1706.05587)."""

    kind: Literal["aspp"]
    width: PositiveInt
    dilations: PositiveInts
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool


class DeepLabV3(Section):
    """Atrous spatial pyramid pooling, projected, then one more convolution (wuhuikai/FastFCN, `DeepLabV3Head`)."""

    kind: Literal["deeplabv3"]
    width: PositiveInt
    dilations: PositiveInts
    project_dropout: FractionBelowOne
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool


class Enc(Section):
    """Context encoding (arXiv:1803.08904)."""

    kind: Literal["enc"]
    width: PositiveInt
    codewords: PositiveInt
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool
    se_loss_weight: NonNegative  # of the semantic encoding (SE) loss


class EncSkip(Section):
    """Context encoding, with details of the backbone's first stage (stride 4) added to its logits."""

    kind: Literal["enc_skip"]
    width: PositiveInt
    codewords: PositiveInt
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool
    skip_width: PositiveInt  # channels of the convolutions over the first stage
    se_loss_weight: NonNegative
    coarse_loss_weight: NonNegative  # of the pixel loss of the logits without the details


class Fcn(Section):
    """Plain convolutions."""

    kind: Literal["fcn"]
    width: PositiveInt
    depth: PositiveInt
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool


class Ocr(Section):
    """Object-contextual representations (arXiv:1909.11065)."""

    kind: Literal["ocr"]
    width: PositiveInt
    key_width: PositiveInt  # channels of the attention's queries, keys and values
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool
    regions_loss_weight: NonNegative  # of the pixel loss of the coarse logits


class UPerNet(Section):
    """Pyramid pooling and a feature pyramid over all four stages (arXiv:1807.10221); needs neck.kind = "none"."""

    kind: Literal["upernet"]
    width: PositiveInt
    pools: PositiveInts
    kernel: Kernel
    dropout: FractionBelowOne
    align_corners: Bool


class AuxiliaryFcn(Section):
    """Plain convolutions on one backbone stage, in training only."""

    kind: Literal["fcn"]
    stage: Stage
    width: PositiveInt
    depth: PositiveInt
    kernel: Kernel
    dropout: FractionBelowOne
    loss_weight: NonNegative


class CrossEntropy(Section):
    """Cross-entropy."""

    kind: Literal["cross_entropy"]
    mean_over: Literal["all", "labeled"]


class WeightedCrossEntropy(Section):
    """Cross-entropy with a weight for each class, for datasets with rare classes."""

    kind: Literal["weighted_cross_entropy"]
    weights: Positives  # one per class, in the dataset's order
    mean_over: Literal["all", "labeled"]


class SmoothedCrossEntropy(Section):
    """Cross-entropy with smoothed labels (arXiv:1512.00567, section 7)."""

    kind: Literal["smoothed_cross_entropy"]
    smoothing: FractionBelowOne  # share of the target that is spread over all classes
    mean_over: Literal["all", "labeled"]


class Focal(Section):
    """Cross-entropy that counts less for pixels that are easy already (arXiv:1708.02002)."""

    kind: Literal["focal"]
    gamma: NonNegative  # the factor of a pixel is (1 - probability of its class) ** gamma; 0.0 = cross-entropy
    mean_over: Literal["all", "labeled"]


class Boundary(Section):
    """Cross-entropy with a larger weight near boundaries between classes (after arXiv:1505.04597, equation 2)."""

    kind: Literal["boundary"]
    weight: Positive  # of pixels near a boundary; 1.0 for all others
    width: BoundaryWidth  # the largest distance to a pixel of another class, in pixels of the crop
    mean_over: Literal["all", "labeled"]


class HardPixels(Section):
    """Cross-entropy of the hard pixels of each image only (online hard example mining, arXiv:1604.03540)."""

    kind: Literal["ohem"]
    threshold: Fraction  # hard pixels: those whose true class has a lower probability,
    min_kept: Fraction  # and at least this share of the image's labeled pixels


class Dice(Section):
    """1 - soft Dice of each image (arXiv:1606.04797), plus cross-entropy."""

    kind: Literal["dice"]
    dice: Positive
    cross_entropy: NonNegative
    mean_over: Literal["all", "labeled"]  # of cross-entropy


class Tversky(Section):
    """1 - Tversky index of each image (arXiv:1706.05721), plus cross-entropy."""

    kind: Literal["tversky"]
    alpha: Positive  # weight of false positives
    beta: Positive  # weight of false negatives; above alpha, it favors recall of small classes
    tversky: Positive
    cross_entropy: NonNegative
    mean_over: Literal["all", "labeled"]  # of cross-entropy


class Lovasz(Section):
    """Lovász-softmax of each image (arXiv:1705.08790), plus cross-entropy."""

    kind: Literal["lovasz"]
    lovasz: Positive
    cross_entropy: NonNegative
    mean_over: Literal["all", "labeled"]  # of cross-entropy


class Optimizer(Section, Generic[Kind]):
    """What all optimizers have, and the length of training.

    The rate of a weight is `lr`, times `head_lr_factor` outside the backbone; inside it, times `layer_decay` for each
    layer from the end of the backbone to the weight.
    """

    kind: Kind
    lr: Positive  # at the start, after the warm-up of [schedule]
    head_lr_factor: Positive
    layer_decay: Fraction  # 1.0: the same rate in the whole backbone
    weight_decay: NonNegative
    decay_norm_and_bias: Bool  # false: no weight decay on biases, norms, and what the backbone's authors except
    steps: PositiveInt | None = None  # instead of `epochs`, and the other way round
    epochs: Positive | None = None  # passes over the training images; becomes a number of steps when training starts
    batch: PositiveInt  # images per step over all devices
    clip_norm: NonNegative  # maximum L2 norm of all gradients together; 0.0 = no clipping
    ema: FractionBelowOne  # decay of the exponential moving average of the weights; 0.0 = no average


class Sgd(Optimizer[Literal["sgd"]]):
    """Stochastic gradient descent."""

    momentum: FractionBelowOne


class AdamW(Optimizer[Literal["adamw"]]):
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    betas: Betas


class RateSchedule(Section, Generic[Kind]):
    """What all schedules have: a linear warm-up, and the rate they fall to."""

    kind: Kind
    warmup_steps: NonNegativeInt
    min_lr: NonNegative


class Poly(RateSchedule[Literal["poly"]]):
    """lr falls to min_lr as (1 - step / length) ** power, with step = 0, 1, ..."""

    power: NonNegative
    end: Literal["last_step", "after_last_step"]  # when lr reaches min_lr: length is steps - 1, or steps


class Cosine(RateSchedule[Literal["cosine"]]):
    """lr falls to min_lr, at the last step, as half a cosine (arXiv:1608.03983, without restarts)."""


class FrozenStages(Section):
    """The stem and the first stages of the backbone keep their weights."""

    kind: Literal["stages"]
    stages: Stages  # 4: the whole backbone
    norm_eval: Literal["none", "frozen", "backbone"]  # batch norms that use and keep their running statistics
    unfreeze_step: NonNegativeInt  # all weights train from this step on (0 = never)


class LinearDropPath(Section):
    """Stochastic depth (arXiv:1603.09382): blocks of the backbone are skipped, the last one with probability `rate`."""

    kind: Literal["linear"]
    rate: FractionBelowOne


class Patience(Section):
    """Training ends when this number of validations in a row had no better mIoU."""

    kind: Literal["patience"]
    validations: PositiveInt


class ClassCrops(Section):
    """Some crops in training are centered on a pixel of a class that is drawn from those in the image."""

    kind: Literal["classes"]
    probability: Probability  # of such a crop
    power: NonNegative  # a class is drawn in proportion to pixels ** -power; 0.0: all classes equally often


class RandAugment(Section):
    """Random photometric operations (the non-geometric ones of arXiv:1909.13719), after those of [data]."""

    kind: Literal["rand_augment"]
    operations: Operations  # per image
    magnitude: Magnitude


class CutMix(Section):
    """A rectangle of another training image replaces part of a crop (arXiv:1905.04899)."""

    kind: Literal["cutmix"]
    probability: Probability
    alpha: Positive  # the share kept is from the beta distribution (alpha, alpha); 1.0: uniform


class CopyPaste(Section):
    """Objects of rare classes from another training image are pasted into a crop (arXiv:2012.07177)."""

    kind: Literal["copy_paste"]
    probability: Probability
    classes: ClassNames  # whose connected regions are pasted


class WholeImage(Section):
    """Evaluation on whole images: interval in steps, size, and the views of test-time augmentation (TTA)."""

    kind: Literal["whole"]
    every: PositiveInt
    resize: TestSize
    scales: Positives  # of TTA
    flip: Bool


class SlidingWindow(Section):
    """Evaluation by overlapping square windows (`MultiEvalModule` of wuhuikai/FastFCN); lengths in pixels."""

    kind: Literal["sliding"]
    every: PositiveInt
    base_size: PositiveInt  # the longer side of an image at scale 1.0
    crop: PositiveInt  # side of a window
    stride: PositiveInt  # between windows
    scales: Positives  # of TTA; 1.0 without it
    flip: Bool  # in TTA


class Published(Section):
    """Published results of this recipe and their source, for comparison only."""

    miou: Percent | None = None
    miou_tta: Percent | None = None
    final_score: Percent | None = None  # mean of pixel accuracy and mIoU on a test set scored by its maintainers only
    memory_gb: Positive | None = None
    fps: Positive | None = None
    device: Text | None = None
    weights: Text | None = None
    source: Text


Backbone = Annotated[ResNet | Pyramid, Discriminator("kind")]
Neck = Annotated[Jpu | JpuX | Disabled, Discriminator("kind")]
Head = Annotated[Psp | Aspp | DeepLabV3 | Enc | EncSkip | Fcn | Ocr | UPerNet, Discriminator("kind")]
Auxiliary = Annotated[AuxiliaryFcn | Disabled, Discriminator("kind")]
Loss = Annotated[
    CrossEntropy
    | WeightedCrossEntropy
    | SmoothedCrossEntropy
    | Focal
    | Boundary
    | HardPixels
    | Dice
    | Tversky
    | Lovasz,
    Discriminator("kind"),
]
Optim = Annotated[Sgd | AdamW, Discriminator("kind")]
Schedule = Annotated[Poly | Cosine, Discriminator("kind")]
Freeze = Annotated[FrozenStages | Disabled, Discriminator("kind")]
DropPath = Annotated[LinearDropPath | Disabled, Discriminator("kind")]
EarlyStop = Annotated[Patience | Disabled, Discriminator("kind")]
Crops = Annotated[ClassCrops | Disabled, Discriminator("kind")]
Colors = Annotated[RandAugment | Disabled, Discriminator("kind")]
Mix = Annotated[CutMix | CopyPaste | Disabled, Discriminator("kind")]
Eval = Annotated[WholeImage | SlidingWindow, Discriminator("kind")]
