"""Folders on this machine and in object storage (S3, Google Cloud, Azure, HTTP), behind the same few methods."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fastfcn.errors import DataError, MissingExtraError, OutputError, UserError, first_line
from fastfcn.utils.files import URL, replace_file

Result = TypeVar("Result")

READABLE = ("s3", "gs", "az", "abfs", "abfss", "https", "http")
WRITABLE = ("s3", "gs", "az", "abfs", "abfss")
ATTEMPTS = 3  # for answers that break off; obstore itself repeats requests that fail
RETRIES = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
ACCESS = "Check the URL and the credentials in the environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL."


def cache_folder() -> Path:
    """The folder of downloads: $FASTFCN_CACHE, or ~/.cache/fastfcn."""
    return Path(os.environ.get("FASTFCN_CACHE") or Path.home() / ".cache" / "fastfcn")


def url_of(place: str | Path) -> str:
    """`place` as a URL without a slash at its end, such as s3://bucket/prefix; "" for a path on this machine."""
    text = os.fspath(place)
    match = URL.match(text)
    return f"{match[1].lower()}://{text[match.end() :].rstrip('/')}" if match else ""


def open_folder(place: str | Path, write: bool = False) -> "LocalFolder | Bucket":
    """The folder at a path or a URL. Raises UserError for schemes that are not supported, and MissingExtraError."""
    url = url_of(place)
    if not url:
        return LocalFolder(Path(place))
    schemes = WRITABLE if write else READABLE
    if url.partition(":")[0] not in schemes:
        verb = "written to" if write else "read from"
        raise UserError(f"{url} cannot be {verb}.", f"Use a folder, or {', '.join(f'{name}://' for name in schemes)}.")
    return Bucket(url)


class LocalFolder:
    """Files in a folder on this machine."""

    is_remote = False

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises DataError."""
        with self._errors(name):
            return (self.path / name).read_bytes()

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes of a file from `start` on. Raises DataError if it has fewer."""
        with self._errors(name), (self.path / name).open("rb") as file:
            file.seek(start)
            return _complete(file.read(length), length, f"{self.path / name}")

    def local(self, name: str, key: str) -> Path:
        """The path of a file on this machine; `key` names the version of files that have to be downloaded."""
        return self.path / name

    def size(self, name: str) -> int | None:
        """The size of a file in bytes, or None if it does not exist."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a path to write to; the file `name` appears at the end of the block. Raises OutputError."""
        with replace_file(self.path / name) as temporary:
            yield temporary

    def delete(self, names: list[str]) -> None:
        """Delete files."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(f"{self.path / name} does not exist.", "Check the data folder.") from error
        except OSError as error:
            raise DataError(f"Cannot read {self.path / name}: {(error.strerror or str(error)).lower()}.") from error


class Bucket:
    """Objects below a URL, through obstore. Credentials come from the environment.

    The threads of obstore do not survive a fork: processes that were forked after its first use must not use it.
    """

    is_remote = True

    def __init__(self, url: str):
        try:
            import obstore  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("obstore", "cloud", f"Access to {url}") from error
        self.url = url

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[type["Bucket"], tuple[str]]:
        return Bucket, (self.url,)

    @cached_property
    def _store(self) -> Any:
        from obstore.store import from_url

        addresses = (self.url, os.environ.get("AWS_ENDPOINT_URL", ""), os.environ.get("AWS_ENDPOINT", ""))
        options: Any = {"allow_http": True} if any(text.startswith("http:") for text in addresses) else None
        try:
            return from_url(self.url, client_options=options, retry_config=RETRIES)  # type: ignore[arg-type]
        except Exception as error:  # of several kinds, with no common base
            raise UserError(f"{self.url} cannot be used: {_reason(error)}.", ACCESS) from error

    def read(self, name: str) -> bytes:
        """The content of an object. Raises DataError."""
        import obstore

        return self._request(name, lambda: bytes(obstore.get(self._store, name).bytes()))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes of an object from `start` on. Raises DataError if it has fewer."""
        import obstore

        data = self._request(name, lambda: bytes(obstore.get_range(self._store, name, start=start, length=length)))
        return _complete(data, length, f"{self.url}/{name}")

    def local(self, name: str, key: str) -> Path:
        """A copy of an object in the cache folder, downloaded once for each `key`. Raises DataError, OutputError."""
        import obstore

        path = cache_folder() / "index" / key / name
        if not path.is_file():
            with replace_file(path) as temporary:
                self._request(name, lambda: _download(obstore.get(self._store, name), temporary))
        return path

    def size(self, name: str) -> int | None:
        """The size of an object in bytes, or None if it does not exist. Raises DataError."""
        import obstore

        def head() -> int | None:
            try:
                return obstore.head(self._store, name)["size"]
            except FileNotFoundError:
                return None

        return self._request(name, head)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path to write to; the file is uploaded as `name` at the end. Raises OutputError."""
        import obstore

        with tempfile.TemporaryDirectory(prefix="fastfcn-") as folder:
            path = Path(folder) / "object"
            yield path
            try:
                self._request(name, lambda: obstore.put(self._store, name, path))
            except DataError as error:
                message = error.message.replace("Cannot read", "Cannot write", 1)
                raise OutputError(message, error.hint) from error

    def delete(self, names: list[str]) -> None:
        """Delete objects. Raises DataError."""
        import obstore

        for start in range(0, len(names), 1000):  # as many as S3 deletes at once
            part = names[start : start + 1000]
            self._request(part[0], lambda part=part: obstore.delete(self._store, part))

    def _request(self, name: str, request: Callable[[], Result]) -> Result:
        """The result of `request`, repeated after errors of the network. Raises DataError."""
        from obstore.exceptions import BaseError, GenericError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return request()
            except FileNotFoundError as error:
                raise DataError(f"{self.url}/{name} does not exist.", ACCESS) from error
            except (BaseError, OSError, ValueError) as error:
                if attempt == ATTEMPTS or not isinstance(error, GenericError | OSError):
                    raise DataError(f"Cannot read {self.url}/{name}: {_reason(error)}.", ACCESS) from error
            time.sleep(attempt)
        raise AssertionError("the last attempt returns or raises")


def _download(result: Any, path: Path) -> None:
    with path.open("wb") as file:
        for chunk in result.stream(min_chunk_size=1 << 20):
            file.write(chunk)


def _complete(data: bytes, length: int, place: str) -> bytes:
    if len(data) != length:
        raise DataError(f"{place} is shorter than its index says.", "Copy it again from an intact copy, or pack again.")
    return data


def _reason(error: Exception) -> str:
    """The message of an error of obstore, which can have many lines, in one."""
    return first_line(error)[:400].rstrip(".: ")
