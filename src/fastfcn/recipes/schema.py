"""What may stand in a recipe: one frozen model per section. Those of the network's parts are in recipe_network.

Nothing here has a default: a recipe says everything. Only [published] may be absent, and most of its keys.
A section that comes in several kinds is a union told apart by its key `kind`.
"""

from typing import Annotated, Literal

from pydantic import Discriminator

from fastfcn.recipes.values import (
    Angle,
    BelowOne,
    Color,
    Count,
    FromZero,
    NotNegative,
    Percent,
    Positive,
    Positives,
    Probability,
    Range,
    Section,
    Share,
    Size,
    Spread,
    Switch,
    TestSize,
    Words,
)


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


class CrossEntropy(Section):
    """Cross-entropy of the head, plus weighted losses of the auxiliary head and of class presence."""

    kind: Literal["cross_entropy"]
    mean_over: Literal["all", "labelled"]
    auxiliary: NotNegative  # weight of the same loss of the auxiliary head
    presence: NotNegative


class WeightedCrossEntropy(Section):
    """Cross-entropy with a weight for each class, for data in which some are rare."""

    kind: Literal["weighted_cross_entropy"]
    weights: Positives  # one for each class, in the order of the data set's
    mean_over: Literal["all", "labelled"]
    auxiliary: NotNegative
    presence: NotNegative


class HardPixels(Section):
    """Cross-entropy of each image's hard pixels alone (online hard example mining, arXiv:1604.03540)."""

    kind: Literal["ohem"]
    threshold: Share  # hard are pixels whose own class gets a lower probability,
    at_least: Share  # and this share of the image's labelled pixels in any case
    auxiliary: NotNegative
    presence: NotNegative


class Dice(Section):
    """1 - soft Dice of each image (arXiv:1606.04797), beside cross-entropy."""

    kind: Literal["dice"]
    dice: Positive
    cross_entropy: NotNegative
    mean_over: Literal["all", "labelled"]  # of cross-entropy
    auxiliary: NotNegative
    presence: NotNegative


class Lovasz(Section):
    """Lovász-softmax of each image (arXiv:1705.08790), beside cross-entropy."""

    kind: Literal["lovasz"]
    lovasz: Positive
    cross_entropy: NotNegative
    mean_over: Literal["all", "labelled"]  # of cross-entropy
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


Loss = Annotated[CrossEntropy | WeightedCrossEntropy | HardPixels | Dice | Lovasz, Discriminator("kind")]
Eval = Annotated[WholeImage | SlidingWindow, Discriminator("kind")]
