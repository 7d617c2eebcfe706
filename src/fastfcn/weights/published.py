"""Published weights: where they are, and how to come by them."""

import re
import urllib.error
from pathlib import Path

from fastfcn.errors import WeightsError
from fastfcn.weights.download import download

ABSENT = (403, 404, 410)  # what a server says of an address that it does not have


def hash_in_name(name: str) -> str:
    """The first digits of the sha256 that OpenMMLab puts before the suffix, as in NAME-57749bed.pth; "" without."""
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z.]+$", name)
    return found[1] if found else ""


def spellings(address: str) -> list[str]:
    """The addresses to try: OpenMMLab's table names one file in a folder `fastfcn/fastfcn/` that its index has not."""
    once = re.sub(r"/([^/]+)/\1/", r"/\1/", address)
    return list(dict.fromkeys([address, once]))


def fetch(name: str, address: str | None) -> Path:
    """The published weights of the recipe `name`, from the cache or the network; raises WeightsError without them."""
    if not address:
        raise WeightsError(
            f"Recipe '{name}' does not say where its published weights are.",
            "Name the file: --checkpoint FILE; or train the row: --train.",
        )
    failed, hint = [], ""
    for each in spellings(address):
        try:
            return download(each, hash_in_name(each))
        except WeightsError as error:
            failed.append(error.message)
            hint, cause = error.hint, error.__cause__
            if not (isinstance(cause, urllib.error.HTTPError) and cause.code in ABSENT):
                break
    raise WeightsError(
        "\n".join(failed),
        f"{hint}\nOr name a file that was fetched elsewhere: --checkpoint FILE; or train the row: --train.",
    )
