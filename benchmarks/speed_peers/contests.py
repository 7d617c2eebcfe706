"""What is compared with what: networks, variants of running them, and the contests in which they take turns."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fastfcn.utils.sizes import Size

DILATED = ('neck={kind="none"}', "backbone.strides=[1,2,1,1]", "backbone.dilations=[1,1,2,4]")
QUICK_SIZE = (64, 128)
FAMILY_SIZES = ((512, 512), (512, 1024), (1024, 2048))  # as the paper measured, and half and whole pictures of streets


@dataclass(frozen=True)
class OpenMMLab:
    """A network that mmsegmentation and we have, with the same weights; `jpu` False is the dilated original."""

    head: str
    classes: int
    jpu: bool = True

    @property
    def name(self) -> str:
        return f"{'jpu' if self.jpu else 'dilated'}_{self.head}_{self.classes}"


@dataclass(frozen=True)
class Ours:
    """A network that only we have: a recipe with changes."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TorchVision:
    """torchvision's deeplabv3_resnet50."""

    classes: int
    name: str = "deeplabv3_resnet50"


Network = OpenMMLab | Ours | TorchVision


@dataclass(frozen=True)
class Variant:
    """One way to run a network; `program` names who runs it (see loading.py).

    `reference`: the variant of the same contest whose class map this one's must equal. `kernels`: whether our
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
        """Of a network whose classes the contest says and not a recipe."""
        assert not isinstance(self.network, Ours)
        return self.network.classes


@dataclass(frozen=True)
class Contest:
    """Variants that take turns on the same image, the first being what the others are compared with.

    `batch`: 0 for inference; else images of `size` in a training step.
    """

    name: str
    size: Size
    variants: tuple[Variant, ...]
    batch: int = 0


def named(kind: str, size: Size, variants: list[Variant], batch: int = 0) -> Contest:
    return Contest(f"{kind}_{size[0]}x{size[1]}", size, tuple(variants), batch)


def against_openmmlab(head: str, classes: int, runtimes: bool, compiled: bool) -> list[Variant]:
    """mmsegmentation first, ours with and without kernels, and other programs with the same weights."""
    network = OpenMMLab(head, classes)
    names = ["fastfcn"] + (["openvino", "onnxruntime"] if runtimes else []) + (["compiled"] if compiled else [])
    rest = [Variant(name, name, network, "mmsegmentation") for name in names]
    rest.insert(1, Variant("fastfcn_plain", "fastfcn", network, "mmsegmentation", kernels=False))
    return [Variant("mmsegmentation", "mmsegmentation", network), *rest]


def dilated(head: str, classes: int) -> list[Variant]:
    """The dilated original, theirs and ours."""
    network = OpenMMLab(head, classes, jpu=False)
    theirs = Variant("mmsegmentation_dilated", "mmsegmentation", network)
    return [theirs, Variant("fastfcn_dilated", "fastfcn", network, theirs.name)]


def official(depth: int) -> list[Variant]:
    """The official family's EncNet, 59 classes: dilated (its head is 3x3 there) and on JPU (1x1)."""
    recipe = "official_r50_enc_pcontext"
    deeper = () if depth == 50 else (f'backbone.name="resnet{depth}s"',)
    twin = Ours(f"r{depth}_enc_dilated", recipe, (*deeper, *DILATED, "head.kernel=3"))
    joined = Ours(f"r{depth}_enc_jpu", recipe, deeper)
    return [Variant(each.name, "fastfcn", each) for each in (twin, joined)]


def slim() -> list[Variant]:
    """The slim family beside the dilated EncNet with its 3x3 head, of the same backbone and classes."""
    recipes = ["dilated_r50_enc_camvid", *(f"fastfcn_r50_jpu_{size}_camvid" for size in "lms")]
    names = ["r50_dilated", "r50_jpu_l", "r50_jpu_m", "r50_jpu_s"]
    return [Variant(name, "fastfcn", Ours(name, recipe)) for name, recipe in zip(names, recipes, strict=True)]


def families() -> list[Contest]:
    """JPU against dilation, all through our predictor."""
    kinds = {"official_r50": official(50), "official_r101": official(101), "slim_r50": slim()}
    return [named(kind, size, variants) for kind, variants in kinds.items() for size in FAMILY_SIZES]


def on_cpu(compiled: bool) -> list[Contest]:
    """In float32."""
    street, room, large = (512, 1024), (512, 512), (1024, 2048)
    several = {head: against_openmmlab(head, 19, head != "aspp", compiled) for head in ("psp", "aspp", "enc")}
    vision = Variant("torchvision", "torchvision", TorchVision(19))
    large_ones = [[each for each in several[head] if each.name in LARGE] for head in ("psp", "enc")]
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


def on_gpu(compiled: bool) -> list[Contest]:
    """In bf16, beside float32; class maps are compared with mmsegmentation's in float32."""
    contests = []
    for head in ("psp", "aspp", "enc"):
        network = OpenMMLab(head, 19)
        programs = ["mmsegmentation", "fastfcn"] + (["compiled"] if compiled else [])
        single = [Variant(f"{each}_float32", each, network, "mmsegmentation_float32") for each in programs]
        half = [replace(each, name=each.program, precision="bfloat16") for each in single]
        contests.append(named(f"{head}_19", (1024, 2048), [*half, replace(single[0], reference=None), *single[1:]]))
    return [*contests, *families(), training("psp", 19, (512, 1024), 8), training("enc", 150, (512, 512), 16)]


def training(head: str, classes: int, size: Size, batch: int) -> Contest:
    """Whole steps of training on batches of `size`."""
    network = OpenMMLab(head, classes)
    programs = ("mmsegmentation", "fastfcn")
    variants = [Variant(each, f"{each}_training", network, precision="bfloat16") for each in programs]
    return named(f"train_{head}_{classes}", size, variants, batch)


def contests(device: str, compiled: bool, size: Size | None) -> list[Contest]:
    """All contests of a device, "cpu" or "cuda", or all at one `size`, each kind once."""
    every = on_cpu(compiled) if device == "cpu" else on_gpu(compiled)
    if size is None:
        return every
    return list({each.name: each for each in resized(every, size)}.values())


def resized(every: list[Contest], size: Size) -> Iterator[Contest]:
    # The last of a name stays, and the fullest is the first: so from the last to the first.
    for each in reversed(every):
        yield named(each.name.rpartition("_")[0], size, list(each.variants), each.batch and 2)
