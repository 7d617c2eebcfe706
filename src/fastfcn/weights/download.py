"""Downloads that resume where they stopped and are checked against the hash in their name."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fastfcn.errors import WeightsError
from fastfcn.utils.files import make_folder
from fastfcn.utils.progress import console

CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where downloads are kept: $FASTFCN_CACHE, or ~/.cache/fastfcn."""
    return Path(os.environ.get("FASTFCN_CACHE") or Path.home() / ".cache" / "fastfcn")


def download(address: str, sha256_prefix: str) -> Path:
    """The file at `address`, from the cache where it is there already.

    Half a download is kept as `NAME.part` and goes on at the next call. Raises WeightsError where the network
    fails, or where the hash is another (the file is removed then).
    """
    target = make_folder(cache_folder()) / address.rsplit("/", 1)[-1]
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    try:
        _fetch(address, part)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"Cannot download {address}: {reason}.",
            f"Try again (it resumes), or fetch the file elsewhere and put it at {target}.",
        ) from error
    found = sha256_of(part)
    if not found.startswith(sha256_prefix):
        part.unlink()
        raise WeightsError(
            f"{address}: the sha256 is {found[:16]}..., expected {sha256_prefix}...; the file was removed.",
            "Try again; if it stays so, the file was changed by someone.",
        )
    part.rename(target)
    return target


def _fetch(address: str, part: Path) -> None:
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left to send: the part is whole
            return
        raise
    with response:
        resumed = response.status == 206
        left = int(response.headers.get("Content-Length") or 0)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with part.open("ab" if resumed else "wb") as file, Progress(*columns, console=console) as progress:
            done = done if resumed else 0
            task = progress.add_task(address.rsplit("/", 1)[-1], total=(done + left) or None, completed=done)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))
        if left and part.stat().st_size < done + left:
            raise ConnectionError("the connection ended before the file did")


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
