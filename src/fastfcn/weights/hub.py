"""Weights files from the Hugging Face Hub, by addresses like `hf://USER/NAME`."""

import re
from pathlib import Path

from fastfcn.errors import WeightsError
from fastfcn.weights.hub_errors import FILE, WHERE, explained

SCHEME = "hf://"
FORM = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")


def is_address(path: str | Path) -> bool:
    """Whether it names something on the Hub."""
    return isinstance(path, str) and path.startswith(SCHEME)


def local_file(path: str | Path) -> Path:
    """The file itself, or the one that an address on the Hub stands for."""
    return fetch(path) if is_address(path) else Path(path)


def fetch(address: str | Path) -> Path:
    """The weights file at `hf://USER/NAME`, from the Hub's cache on this machine or the network.

    Raises WeightsError that tells apart: no such name or no access, no weights of fastfcn there, no network.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    match = FORM.fullmatch(str(address).removeprefix(SCHEME))
    if not match:
        raise WeightsError(f"{address} is not an address on the Hugging Face Hub.", WHERE)
    try:
        return Path(hf_hub_download(match["name"], FILE, revision=match["revision"], library_name="fastfcn"))
    except HFValidationError as error:
        raise WeightsError(f"{address} is not an address on the Hugging Face Hub: {error}", WHERE) from error
    except Exception as error:
        raise explained(str(address), error) from error
