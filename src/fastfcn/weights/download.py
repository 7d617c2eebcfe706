"""Downloads of published weights: resumable, cached, and verified by the hash in the file's name."""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fastfcn.errors import WeightsError
from fastfcn.utils.files import make_folder
from fastfcn.utils.progress import console
from fastfcn.utils.storage import cache_folder

CHUNK = 1 << 20  # bytes
OTHERWISE = "Or give a file you downloaded with --checkpoint FILE, or train the recipe with --train."
NOT_FOUND = (403, 404, 410)  # HTTP status codes for a URL that does not exist


def fetch_published(recipe: str, url: str | None, otherwise: str = OTHERWISE) -> Path:
    """The published weights of the recipe of that name, from the cache or downloaded.

    Raises WeightsError; `otherwise` ends its hint: how to go on without the download.
    """
    if not url:
        raise WeightsError(
            f"Recipe '{recipe}' has no URL of published weights.",
            "Give the file with --checkpoint FILE, or train the recipe with --train.",
        )
    messages, hint = [], ""
    for variant in url_variants(url):
        try:
            return download(variant, hash_in_name(variant))
        except WeightsError as error:
            messages.append(error.message)
            hint, cause = error.hint, error.__cause__
            if not (isinstance(cause, urllib.error.HTTPError) and cause.code in NOT_FOUND):
                break
    raise WeightsError(
        "\n".join(messages),
        f"{hint}\n{otherwise}",
    )


def hash_in_name(name: str) -> str:
    """The prefix of the sha256 that OpenMMLab puts before the suffix, as in NAME-57749bed.pth; "" without one."""
    match = re.search(r"-([0-9a-f]{8,64})\.[a-z.]+$", name)
    return match[1] if match else ""


def url_variants(url: str) -> list[str]:
    """The URLs to try. OpenMMLab's table has `fastfcn/fastfcn/` in the URL of one file; its metafile has `fastfcn/`."""
    once = re.sub(r"/([^/]+)/\1/", r"/\1/", url)
    return list(dict.fromkeys([once, url]))


def download(url: str, sha256_prefix: str) -> Path:
    """The file at `url`, from the cache if it was downloaded before.

    An interrupted download is kept as `NAME.part` and resumed by the next call. Raises WeightsError if the network
    fails, or if the hash does not start with `sha256_prefix`; the file is removed then.
    """
    target = make_folder(cache_folder()) / url.rsplit("/", 1)[-1]
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    try:
        _fetch(url, part)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"Cannot download {url}: {reason}.",
            f"Try again (it resumes), or fetch the file elsewhere and put it at {target}.",
        ) from error
    sha256 = sha256_of(part)
    if not sha256.startswith(sha256_prefix):
        part.unlink()
        raise WeightsError(
            f"{url}: the sha256 is {sha256[:16]}..., expected {sha256_prefix}...; the file was removed.",
            "Try again. If this repeats, the file on the server was modified.",
        )
    part.rename(target)
    return target


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str, part: Path) -> None:
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # range not satisfiable: the part is already complete
            return
        raise
    with response:
        resumed = response.status == 206
        left = int(response.headers.get("Content-Length") or 0)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with part.open("ab" if resumed else "wb") as file, Progress(*columns, console=console) as progress:
            done = done if resumed else 0
            task = progress.add_task(url.rsplit("/", 1)[-1], total=(done + left) or None, completed=done)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))
        if left and part.stat().st_size < done + left:
            raise ConnectionError("the connection ended before the file did")
