"""A client for `fastfcn serve` that is used like a predictor. Needs only the standard library for HTTP.

client = Client("http://127.0.0.1:8000")
prediction = client("street.jpg")  # labels, shares(), overlay(), as from fastfcn.load
"""

import io
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from random import uniform
from time import monotonic, sleep
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

import numpy as np
from PIL import Image

from fastfcn.data.bands import BandReader, data_errors, read_header
from fastfcn.data.decoding import open_image, upright_size
from fastfcn.data.description import DatasetDescription
from fastfcn.data.images import RGB, ImageReader, from_pil
from fastfcn.errors import DataError, UserError
from fastfcn.prediction.prediction import Prediction
from fastfcn.utils.sizes import Size

RETRY_STATUSES = (429, 502, 503, 504)
MAX_PAUSE = 30.0  # seconds
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_RUNS = 2_000_000  # the most that a service sends
RUN_BYTES = 12  # of JSON; the most that a run takes, on average
OTHER_BYTES = 2**20  # of JSON: the rest of a response
MAX_TEXT = 300  # characters of a service's message that are shown


class Client:
    """Sends images to the service at `url`, such as http://127.0.0.1:8000.

    `token`: bearer token, if the service requires one; `tries`: attempts per request, after the pause that a busy
    service asks for (Retry-After), else after increasing pauses; `timeout`: seconds to wait for a response. `classes`
    and `description` are those of the served model. Raises UserError if the service is unreachable or refuses the
    token.
    """

    def __init__(self, url: str, token: str | None = None, tries: int = 8, timeout: float = 120.0):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(f"{url!r} is not a valid service URL.", "Use a URL such as http://127.0.0.1:8000.")
        self.url, self.tries, self.timeout = url.rstrip("/"), tries, timeout
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener = _opener(parts.hostname or "")
        self.info = self._request("/info")
        try:
            self.description = DatasetDescription.model_validate(self.info["description"])
            bands = self.info.get("model", {}).get("bands")
            self.images: ImageReader = BandReader.from_json(bands) if bands else RGB
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._not_fastfcn() from error
        self.classes = self.description.class_names

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """Segment one image: a path, a PIL image or an RGB array, uint8 (H, W, 3).

        Files are sent unchanged. Raises DataError for an image that cannot be used, UserError if the service fails.
        """
        body, pixels = _encoded(image, self.images)
        labels = self.labels(body, str(image) if isinstance(image, str | Path) else "the image")
        return Prediction(labels, self.images.preview(pixels), self.description)

    def labels(self, file: bytes, name: str = "the image") -> np.ndarray:
        """The segmentation map (H, W), uint8, of an encoded image; `name` is used in errors. Raises like a call.

        A response that does not fit the image or the classes is a UserError.
        """
        size = self._size(file, name)
        limit = OTHER_BYTES + RUN_BYTES * min(size[0] * size[1], MAX_RUNS)
        response = self._request("/predict?format=runs", file, name, limit)
        try:
            return labels_from_runs(response, size, len(self.classes))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._not_fastfcn() from error

    def _size(self, file: bytes, name: str) -> Size:
        if isinstance(self.images, BandReader):
            with data_errors(name):
                return read_header(file).size
        with open_image(io.BytesIO(file), name) as image:
            return upright_size(image)

    def file_labels(self, paths: Sequence[Path], concurrency: int = 4) -> Iterator[np.ndarray | DataError]:
        """The segmentation map or the error of each file, in order; `concurrency` requests run at the same time."""
        with ThreadPoolExecutor(concurrency, thread_name_prefix="client") as threads:
            pending: deque[Future[np.ndarray | DataError]] = deque()
            try:
                for path in paths:
                    if len(pending) == concurrency:
                        yield pending.popleft().result()
                    pending.append(threads.submit(self._file_labels, path))
                while pending:
                    yield pending.popleft().result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _file_labels(self, path: Path) -> np.ndarray | DataError:
        try:
            return self.labels(_file(path), str(path))
        except DataError as error:
            return error

    def _request(
        self, path: str, body: bytes | None = None, name: str = "", limit: int = OTHER_BYTES
    ) -> dict[str, Any]:
        """The JSON response of the service, of at most `limit` bytes, with retries."""
        attempt = 0
        while True:
            attempt += 1
            pause = min(MAX_PAUSE, 0.25 * 2**attempt)
            try:
                with self._opener.open(self._message(path, body), timeout=self.timeout) as response:
                    return json.loads(_read(response, limit, self.timeout))
            except HTTPError as error:
                failure = self._failure(error, name)
                if error.code not in RETRY_STATUSES:
                    raise failure from error
                pause = _retry_after(error, pause)
            except (ValueError, RecursionError) as error:
                raise self._not_fastfcn() from error
            except (OSError, URLError, HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                failure = UserError(f"{self.url} does not respond: {reason}.", "Is `fastfcn serve` running there?")
            if attempt >= self.tries:
                raise failure
            sleep(pause * uniform(1.0, 1.25))  # jitter spreads the retries of several clients

    def _message(self, path: str, body: bytes | None) -> Request:
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        return Request(self.url + path, body, self._headers | headers)

    def _not_fastfcn(self) -> UserError:
        return UserError(f"The response of {self.url} is not from fastfcn.", "Check the URL.")

    def _failure(self, error: HTTPError, name: str) -> UserError:
        """The service's problem as an exception: DataError if it is about the image `name`, else UserError."""
        try:
            problem = json.loads(_read(error, OTHER_BYTES, self.timeout))
            text, hint = str(problem["detail"])[:MAX_TEXT], str(problem.get("hint", ""))[:MAX_TEXT]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError, HTTPException):
            text, hint = f"status {error.code}", ""
        if name and error.code in (400, 413, 415, 422, 504):
            return DataError(f"{name}: {text}", hint)
        if error.code == 401:
            hint = "Pass `token`, or set the environment variable FASTFCN_TOKEN."
        return UserError(f"{self.url}: {text}", hint)


def _encoded(image: str | Path | Image.Image | np.ndarray, reader: ImageReader) -> tuple[bytes, np.ndarray]:
    """The encoded image to send, and its pixels, as `reader` reads them."""
    if isinstance(image, str | Path):
        return _file(Path(image)), reader.read(Path(image))
    if reader is not RGB:
        raise DataError("An image of bands must be a path.", "Save the array as a .npy file.")
    pixels = from_pil(image) if isinstance(image, Image.Image) else image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError("An image must be a path, a PIL image, or an RGB uint8 array (H, W, 3).")
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue(), pixels


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.", "Check it.") from error


def labels_from_runs(response: Any, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """The segmentation map (H, W), uint8, of an image of `size` (height, width).

    Everything is checked before memory of the claimed size is used. Raises ValueError, TypeError or OverflowError for a
    response that does not fit the image or the classes.
    """
    if (response["height"], response["width"]) != size:
        raise ValueError("the result has another size than the image")
    pixels = size[0] * size[1]
    classes, lengths = _integers(response["runs"]["classes"]), _integers(response["runs"]["lengths"])
    if classes.shape != lengths.shape or not ((lengths >= 1) & (lengths <= pixels)).all():
        raise ValueError("invalid run lengths")
    if lengths.sum() != pixels or not ((classes >= 0) & (classes < num_classes)).all():
        raise ValueError("the runs do not fit the image or the classes")
    return np.repeat(classes.astype(np.uint8), lengths).reshape(size)


def _integers(values: Any) -> np.ndarray:
    """A JSON list of integers as int64. Raises TypeError for anything else, OverflowError for too large numbers."""
    if not isinstance(values, list) or not set(map(type, values)) <= {int}:
        raise TypeError("not a list of integers")
    return np.array(values, np.int64)


def _read(response: IO[bytes], limit: int, seconds: float) -> bytes:
    """The body of a response. Raises ValueError beyond `limit` bytes, TimeoutError if it takes too long."""
    parts, length, end = [], 0, monotonic() + seconds
    while part := response.read1(2**16):  # type: ignore[attr-defined]
        parts.append(part)
        length += len(part)
        if length > limit:
            raise ValueError(f"more than {limit} bytes")
        if monotonic() > end:
            raise TimeoutError(f"no complete response within {seconds:g} s")
    return b"".join(parts)


class _SameOrigin(HTTPRedirectHandler):
    """Follows redirects within the service only: another host must get neither the token nor the image."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if origin(newurl) != origin(req.full_url):
            place = "{}://{}".format(*origin(newurl))
            raise UserError(
                f"{req.host} redirects to another server, {place[:MAX_TEXT]}.", "If you trust it, use its URL."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def origin(url: str) -> tuple[str, str]:
    """Scheme, and host with port, of a URL, in lower case."""
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _opener(host: str) -> OpenerDirector:
    """Requests to this machine bypass proxies."""
    proxies = (ProxyHandler({}),) if host in LOCAL_HOSTS else ()
    return build_opener(_SameOrigin, *proxies)


def _retry_after(error: HTTPError, default: float) -> float:
    value = error.headers.get("Retry-After", "")
    return min(MAX_PAUSE, float(value)) if value.isascii() and value.isdecimal() else default
