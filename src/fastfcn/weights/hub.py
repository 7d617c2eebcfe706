"""Weights files on the Hugging Face Hub: addresses such as `hf://USER/NAME`, downloads, and errors in plain words."""

import re
from pathlib import Path

from fastfcn.errors import UserError, WeightsError, first_line

SCHEME = "hf://"
ADDRESS = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")  # without the scheme
FILE = "weights.safetensors"
ADDRESS_HINT = "Addresses look like hf://USER/NAME, or hf://USER/NAME@REVISION for one version."
LOGIN_HINT = "Log in with `hf auth login`, or set HF_TOKEN to a token (https://huggingface.co/settings/tokens)."


def is_address(path: str | Path) -> bool:
    """Whether `path` is an address on the Hub."""
    return isinstance(path, str) and path.startswith(SCHEME)


def fetch(address: str | Path) -> Path:
    """The weights file at `hf://USER/NAME`, from the Hub's cache on this machine or downloaded.

    Raises WeightsError if the address is invalid, if the model does not exist, is not accessible or has no weights of
    fastfcn, and if the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    match = ADDRESS.fullmatch(str(address).removeprefix(SCHEME))
    if not match:
        raise WeightsError(f"{address} is not an address on the Hugging Face Hub.", ADDRESS_HINT)
    try:
        return Path(hf_hub_download(match["name"], FILE, revision=match["revision"], library_name="fastfcn"))
    except HFValidationError as error:
        raise WeightsError(f"{address} is not an address on the Hugging Face Hub: {error}", ADDRESS_HINT) from error
    except Exception as error:
        raise user_error(str(address), error) from error


def user_error(address: str, error: Exception) -> Exception:
    """Convert an error of the Hub or the network to a UserError; returns other errors unchanged."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return WeightsError(f"{address} is gated: access must be granted.", f"Request it on its page. {LOGIN_HINT}")
        case errors.RevisionNotFoundError():
            return WeightsError(f"{address}: there is no such version.", ADDRESS_HINT)
        case errors.RepositoryNotFoundError():
            hint = f"{ADDRESS_HINT} {LOGIN_HINT}"
            return WeightsError(f"{address}: there is no model of that name, or it is private.", hint)
        case _ if isinstance(error, errors.LocalEntryNotFoundError) or _is_network_error(error):
            return WeightsError(
                f"{address}: the Hub cannot be reached, and the file is not in the local cache.",
                "Try again with a network connection; downloaded files are kept.",
            )
        case errors.EntryNotFoundError():
            return WeightsError(
                f"{address} has no {FILE}: it was not uploaded by `fastfcn push`.", "Choose another model."
            )
        case errors.HfHubHTTPError() if error.response is not None and error.response.status_code in (401, 403):
            return UserError(f"{address}: the Hub denies access: {first_line(error)}", LOGIN_HINT)
        case errors.HfHubHTTPError():
            return UserError(f"{address}: the Hub returned an error: {first_line(error)}", "Try again later.")
    return error


def _is_network_error(error: Exception) -> bool:
    """By name: huggingface_hub has used requests, httpx and httpx2."""
    return any(kind.__name__ in ("TransportError", "RequestException") for kind in type(error).__mro__)
