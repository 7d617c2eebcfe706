"""What the Hugging Face Hub and the network can say, as errors that tell what to do."""

from fastfcn.errors import UserError, WeightsError

FILE = "weights.safetensors"
WHERE = "Addresses look like hf://USER/NAME, or hf://USER/NAME@REVISION for one version."
LOGIN = "Log in: `hf auth login`, or put a token into HF_TOKEN (https://huggingface.co/settings/tokens)."


def explained(address: str, error: Exception) -> Exception:
    """The error as one of ours where the Hub or the network is to blame; else as it is."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return WeightsError(f"{address} is only for those who were given access.", f"Ask on its page. {LOGIN}")
        case errors.RevisionNotFoundError():
            return WeightsError(f"{address}: there is no such version.", WHERE)
        case errors.RepositoryNotFoundError():
            return WeightsError(f"{address}: there is no model of that name, or it is private.", f"{WHERE} {LOGIN}")
        case _ if isinstance(error, errors.LocalEntryNotFoundError) or _is_network(error):
            return WeightsError(
                f"{address}: the Hub cannot be reached, and what is wanted is not on this machine yet.",
                "Try again with a network; what was fetched once is kept.",
            )
        case errors.EntryNotFoundError():
            return WeightsError(
                f"{address} has no {FILE}: it is not a model that `fastfcn push` wrote.", "Choose another model."
            )
        case errors.HfHubHTTPError() if error.response is not None and error.response.status_code in (401, 403):
            return UserError(f"{address}: the Hub does not let you: {_first(error)}", LOGIN)
        case errors.HfHubHTTPError():
            return UserError(f"{address}: the Hub answers: {_first(error)}", "Try again later.")
    return error


def _is_network(error: Exception) -> bool:
    """By name, since huggingface_hub has gone from requests to httpx and on to httpx2."""
    return any(each.__name__ in ("TransportError", "RequestException") for each in type(error).__mro__)


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
