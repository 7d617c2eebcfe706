"""Initial weights: OpenMMLab's v1c, FastFCN's own ResNets, timm's ImageNet weights, or a file of one's own."""

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
from torch import Tensor, nn

from fastfcn.errors import WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes import Recipe
from fastfcn.utils.files import replace_file
from fastfcn.weights.checkpoint import read_checkpoint, state_dict
from fastfcn.weights.download import download
from fastfcn.weights.openmmlab import rename
from fastfcn.weights.state_dict import key_problems, load_state

OPENMMLAB_V1C = "https://download.openmmlab.com/pretrain/third_party/resnet50_v1c-2cccc1ad.pth"
# What FastFCN's own code begins from (its encoding/models/model_store.py): ResNets with a stem of 64, 64 and 128
# channels, each a .pth in a .zip; the sha1 is that of the .pth.
OFFICIAL = "https://hangzh.s3.amazonaws.com/encoding/models"
OFFICIAL_SHA1 = {
    "resnet50s": ("resnet50", "ebb6acbbd1d1c90b7f446ae59d30bf70c74febc1"),
    "resnet101s": ("resnet101", "2a57e44de9c853fa015b172309a1ee7e2d0e4e2a"),
}
WAYS = 'set backbone.pretrained to the path of a file (.safetensors, .pth, .npz), or to "none" for random weights'


def load_initial_weights(recipe: Recipe, model: Segmenter) -> None:
    """Load the recipe's initial weights: `start` into the whole network, else `backbone.pretrained` into its backbone.

    Raises WeightsError if they are missing or do not fit; never falls back to random weights.
    """
    if recipe.load_from != "none":
        load_start(model, recipe.load_from)
    else:
        load_pretrained(model.backbone, recipe.backbone.name, recipe.backbone.pretrained)


def load_pretrained(backbone: nn.Module, name: str, source: str) -> None:
    """Load initial weights into `backbone`, the timm network `name`.

    `source`: "openmmlab" (resnet50_v1c, what OpenMMLab's table was trained from; for `resnet50c`), "official" (what
    FastFCN's own code was trained from; for `resnet50s` and `resnet101s`), "imagenet" (timm's), "none" (stays
    random), or the path of a file. Raises WeightsError where they cannot be had or do not fit; never falls back to
    random weights.
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
            tensors = _file(path)
    fit(backbone, tensors, source)


def load_start(model: nn.Module, path: str) -> None:
    """Load all weights of `model`, heads included, from the weights file at `path`, to train it further.

    Raises WeightsError where there is none, and where anything does not fit.
    """
    if not Path(path).is_file():
        raise WeightsError(
            f"start: there is no file {path}.",
            'Give the weights file of a whole network, for example start=runs/first/last.safetensors, or "none".',
        )
    load_state(model, _file(path), path)


def _openmmlab(name: str) -> dict[str, Tensor]:
    if name != "resnet50c":
        raise WeightsError(f"OpenMMLab's weights are for resnet50c, not for {name}.", f'Use "imagenet", or {WAYS}.')
    try:
        path = download(OPENMMLAB_V1C, OPENMMLAB_V1C.rsplit("-", 1)[-1].removesuffix(".pth"))
    except WeightsError as error:
        raise WeightsError(error.message, f"{error.hint}\nOr {WAYS}.") from error
    return state_dict(read_checkpoint(path), path)


def _official(name: str) -> dict[str, Tensor]:
    if name not in OFFICIAL_SHA1:
        known = " and ".join(OFFICIAL_SHA1)
        raise WeightsError(f"FastFCN's own weights are for {known}, not for {name}.", f'Use "imagenet", or {WAYS}.')
    theirs, sha1 = OFFICIAL_SHA1[name]
    stem = f"{theirs}-{sha1[:8]}"
    try:
        archive = download(f"{OFFICIAL}/{stem}.zip", sha256_prefix="")
    except WeightsError as error:
        raise WeightsError(error.message, f"{error.hint}\nOr {WAYS}.") from error
    path = archive.with_suffix(".pth")
    if not path.is_file():
        _unpack(archive, path, sha1)
    return state_dict(read_checkpoint(path), path)


def _unpack(archive: Path, path: Path, sha1: str) -> None:
    """Write the file of that name in `archive` to `path`; raises WeightsError where its hash is another."""
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
            f"{archive} does not hold the {path.name} that was published{reason}; it was removed.",
            f"Try again; if it stays so, {WAYS}.",
        )
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


def _imagenet(name: str) -> dict[str, Tensor]:
    # Without a network the hub client tries for a minute; told so, it looks into its cache alone.
    offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, not _reachable(constants.ENDPOINT)
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm and its hub client raise many kinds, from sockets up
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise WeightsError(
            f"Cannot fetch the ImageNet weights of {name}: {reason}", f"Connect to the network, or {WAYS}."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _reachable(address: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _file(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise WeightsError(f"backbone.pretrained: there is no file {path}.", f'Or {WAYS}; "imagenet" fetches them.')
    match Path(path).suffix:
        case ".npz":
            return read_int8_npz(path)
        case ".safetensors":
            try:
                return safetensors.torch.load_file(path)
            except safetensors.SafetensorError as error:
                raise WeightsError(f"{path} is not a safetensors file, or is damaged: {error}.") from error
        case _:
            return state_dict(read_checkpoint(path), path)


def read_int8_npz(path: str | Path) -> dict[str, Tensor]:
    """Weights stored as int8 with a power-of-two scale each.

    A key `q:NAME` holds int8 values and `e:NAME` their exponent, value = q * 2^-e; `f:NAME` is float32 as it is.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {key: file[key] for key in file.files}
        tensors = {
            key[2:]: value.astype(np.float32) * (2.0 ** -float(stored["e:" + key[2:]]) if key[0] == "q" else 1.0)
            for key, value in stored.items()
            if key[:2] in ("q:", "f:")
        }
    except Exception as error:  # damaged archives raise almost any kind
        raise WeightsError(f"{path} is not a file of int8 weights, or is damaged: {error}.") from error
    return {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in tensors.items()}


def fit(backbone: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load `tensors` named as by timm, torchvision or OpenMMLab.

    Parts that the backbone does not have at all, such as the classifier or a whole segmentation head, are left out.
    """
    wanted = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    parts = {_part(key) for key in wanted}
    found = {_own_name(key, parts): value for key, value in tensors.items()}
    found = {key: value for key, value in found.items() if _part(key) in parts}
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    problems = key_problems({key: shape for key, shape in wanted.items() if key not in counters - found.keys()}, found)
    if problems:
        raise WeightsError(
            f"{source} does not fit the backbone:\n" + "\n".join(problems),
            "Choose the backbone.name the weights were made with (resnet50c has the v1c stem, resnet50s that of "
            "FastFCN's own code, resnet50 the plain).",
        )
    backbone.load_state_dict(found, strict=False)


def _part(key: str) -> str:
    return key.split(".", 1)[0]


def _own_name(key: str, parts: set[str]) -> str:
    """The backbone's name of a tensor called `key` in a file of the whole network or of another library."""
    plain = key.removeprefix("backbone.")
    joined = plain.replace(".", "_", 1)  # what timm calls stages.0 in a network, it calls stages_0 in its pyramid
    renamed = rename("backbone." + plain).removeprefix("backbone.")
    return next((name for name in (plain, joined, renamed) if _part(name) in parts), plain)
