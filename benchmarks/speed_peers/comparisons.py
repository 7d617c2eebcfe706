"""What is compared: networks, variants of running them, and comparisons in which variants are interleaved."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec

from recipe_names import openmmlab_recipe

from fastfcn.utils.sizes import Size

DILATED = ('neck={kind="none"}', "backbone.strides=[1,2,1,1]", "backbone.dilations=[1,1,2,4]")
QUICK_SIZE = (64, 128)
SKIPPED = "skipped: "  # begins the reason of a variant that was not measured
NEEDED = {"mmsegmentation": "mmseg", "compiled": "mmseg", "mmsegmentation_training": "mmseg"}  # modules of programs
FAMILY_SIZES = ((512, 512), (512, 1024), (1024, 2048))  # as in the paper, and half and full Cityscapes images


@dataclass(frozen=True)
class OpenMMLab:
    """A network of mmsegmentation and fastfcn, with the same weights; `jpu` False is the dilated baseline."""

    head: str
    classes: int
    jpu: bool = True

    @property
    def name(self) -> str:
        return f"{'jpu' if self.jpu else 'dilated'}_{self.head}_{self.classes}"

    @property
    def recipe(self) -> str:
        return openmmlab_recipe(self.head, self.classes, self.jpu)

    @property
    def changes(self) -> tuple[str, ...]:
        """Changes to the recipe: none."""
        return ()


@dataclass(frozen=True)
class RecipeNetwork:
    """A network of fastfcn only: a recipe with overrides."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TorchVision:
    """torchvision's deeplabv3_resnet50."""

    classes: int
    name: str = "deeplabv3_resnet50"


def missing_package(program: str) -> str:
    """The module that `program` needs and that is not installed, or ""."""
    module = NEEDED.get(program, "")
    return module if module and find_spec(module) is None else ""


Network = OpenMMLab | RecipeNetwork | TorchVision


@dataclass(frozen=True)
class Variant:
    """One way to run a network; `program` selects the loader (loaders.py).

    `reference`: the variant of the same comparison whose segmentation map must be equal. `kernels`: whether fastfcn's
    compiled kernels may be used. `precision`: "float32" or "bfloat16" (autocast).
    """

    name: str
    program: str
    network: Network
    reference: str | None = None
    kernels: bool = True
    precision: str = "float32"

    @property
    def classes(self) -> int:
        """Number of classes, if it is not defined by a recipe."""
        assert not isinstance(self.network, RecipeNetwork)
        return self.network.classes


@dataclass(frozen=True)
class Comparison:
    """Variants that run interleaved on the same image; the others are compared with the first.

    `batch`: 0 for inference, else images of `size` in a training step.
    """

    name: str
    size: Size
    variants: tuple[Variant, ...]
    batch: int = 0


def named(kind: str, size: Size, variants: list[Variant], batch: int = 0) -> Comparison:
    return Comparison(f"{kind}_{size[0]}x{size[1]}", size, tuple(variants), batch)


def against_openmmlab(head: str, classes: int, runtimes: bool, compiled: bool) -> list[Variant]:
    """mmsegmentation first, fastfcn with and without kernels, and other runtimes with the same weights."""
    network = OpenMMLab(head, classes)
    names = ["fastfcn"] + (["openvino", "onnxruntime"] if runtimes else []) + (["compiled"] if compiled else [])
    rest = [Variant(name, name, network, "mmsegmentation") for name in names]
    rest.insert(1, Variant("fastfcn_plain", "fastfcn", network, "mmsegmentation", kernels=False))
    return [Variant("mmsegmentation", "mmsegmentation", network), *rest]


def dilated(head: str, classes: int) -> list[Variant]:
    """The dilated baseline, of mmsegmentation and of fastfcn."""
    network = OpenMMLab(head, classes, jpu=False)
    theirs = Variant("mmsegmentation_dilated", "mmsegmentation", network)
    return [theirs, Variant("fastfcn_dilated", "fastfcn", network, theirs.name)]


def official(depth: int) -> list[Variant]:
    """The official family's EncNet, 59 classes: dilated (with a 3x3 head) and with JPU (1x1)."""
    recipe = "official_r50_enc_pcontext"
    deeper = () if depth == 50 else (f'backbone.name="resnet{depth}s"',)
    dilated_network = RecipeNetwork(f"r{depth}_enc_dilated", recipe, (*deeper, *DILATED, "head.kernel=3"))
    jpu_network = RecipeNetwork(f"r{depth}_enc_jpu", recipe, deeper)
    return [Variant(network_.name, "fastfcn", network_) for network_ in (dilated_network, jpu_network)]


def slim() -> list[Variant]:
    """The slim family and the dilated EncNet with its 3x3 head, with the same backbone and classes."""
    recipes = ["dilated_r50_enc_camvid", *(f"fastfcn_r50_jpu_{size}_camvid" for size in "lms")]
    names = ["r50_dilated", "r50_jpu_l", "r50_jpu_m", "r50_jpu_s"]
    return [Variant(name, "fastfcn", RecipeNetwork(name, recipe)) for name, recipe in zip(names, recipes, strict=True)]


def families() -> list[Comparison]:
    """JPU compared with dilation, in fastfcn's predictor."""
    kinds = {"official_r50": official(50), "official_r101": official(101), "slim_r50": slim()}
    return [named(kind, size, variants) for kind, variants in kinds.items() for size in FAMILY_SIZES]


def on_cpu(compiled: bool) -> list[Comparison]:
    """In float32."""
    street, room, large = (512, 1024), (512, 512), (1024, 2048)
    several = {head: against_openmmlab(head, 19, head != "aspp", compiled) for head in ("psp", "aspp", "enc")}
    vision = Variant("torchvision", "torchvision", TorchVision(19))
    large_ones = [[variant for variant in several[head] if variant.name in LARGE] for head in ("psp", "enc")]
    return [
        named("psp_19", street, several["psp"] + dilated("psp", 19)),
        named("enc_19", street, several["enc"] + dilated("enc", 19)),
        named("aspp_19", street, [*several["aspp"], *dilated("aspp", 19), vision]),
        named("psp_150", room, against_openmmlab("psp", 150, True, compiled)),
        named("enc_150", room, against_openmmlab("enc", 150, False, False)),
        named("aspp_150", room, against_openmmlab("aspp", 150, False, False)),
        named("psp_19", large, large_ones[0]),
        named("enc_19", large, large_ones[1]),
        *families(),
    ]


LARGE = ("mmsegmentation", "fastfcn")


def on_gpu(compiled: bool) -> list[Comparison]:
    """In bf16 and in float32; labels are compared with mmsegmentation's in float32."""
    sizes = ((19, (1024, 2048)), (19, (512, 1024)), (150, (512, 512)))
    inference = [gpu_inference(head, *size, compiled) for size in sizes for head in ("psp", "enc", "aspp")]
    baselines = [named(f"dilated_{head}_19", (1024, 2048), gpu_dilated(head)) for head in ("psp", "enc", "aspp")]
    crops = ((19, (512, 1024), 8), (150, (512, 512), 16))
    steps = [training(head, *crop) for crop in crops for head in ("psp", "enc", "aspp")]
    return [*inference, *baselines, *families(), *steps]


def gpu_inference(head: str, classes: int, size: Size, compiled: bool) -> Comparison:
    network = OpenMMLab(head, classes)
    programs = ["mmsegmentation", "fastfcn"] + (["compiled"] if compiled else [])
    single = [Variant(f"{variant}_float32", variant, network, "mmsegmentation_float32") for variant in programs]
    half = [replace(variant, name=variant.program, precision="bfloat16") for variant in single]
    return named(f"{head}_{classes}", size, [*half, replace(single[0], reference=None), *single[1:]])


def gpu_dilated(head: str) -> list[Variant]:
    """The dilated baseline and JPU, both in fastfcn."""
    networks = {"dilated": OpenMMLab(head, 19, jpu=False), "jpu": OpenMMLab(head, 19)}
    return [Variant(name, "fastfcn", network, precision="bfloat16") for name, network in networks.items()]


def training(head: str, classes: int, size: Size, batch: int) -> Comparison:
    """Complete training steps on batches of `size`."""
    network = OpenMMLab(head, classes)
    programs = ("mmsegmentation", "fastfcn")
    variants = [Variant(program, f"{program}_training", network, precision="bfloat16") for program in programs]
    return named(f"train_{head}_{classes}", size, variants, batch)


def comparisons(device: str, compiled: bool, size: Size | None) -> list[Comparison]:
    """All comparisons of a device, "cpu" or "cuda", or each kind once at one `size`."""
    every = on_cpu(compiled) if device == "cpu" else on_gpu(compiled)
    if size is None:
        return every
    return list({comparison.name: comparison for comparison in resized(every, size)}.values())


def resized(every: list[Comparison], size: Size) -> Iterator[Comparison]:
    # Of comparisons with the same name the first has most variants; the last one in a dictionary wins.
    for comparison in reversed(every):
        yield named(comparison.name.rpartition("_")[0], size, list(comparison.variants), comparison.batch and 2)
