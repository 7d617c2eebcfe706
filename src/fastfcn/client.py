"""A client of `fastfcn serve`, of the standard library alone: it answers as a predictor does.

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
from time import sleep
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import numpy as np
from PIL import Image

from fastfcn.data.description import DataSetDescription
from fastfcn.data.images import read_image
from fastfcn.errors import DataError, UserError
from fastfcn.prediction.prediction import Prediction

AGAIN = (429, 502, 503, 504)  # statuses after which another try may succeed
LONGEST_PAUSE = 30.0  # seconds
LOCAL = ("127.0.0.1", "localhost", "::1")


class Client:
    """Sends images to the service at `url`.

    A busy service is asked again after the time that it names (Retry-After), one that does not answer after growing
    pauses: `tries` times in all. `classes` and `description` are those of the served network. Raises UserError where
    the service cannot be reached or refuses the `token`.
    """

    def __init__(self, url: str, token: str | None = None, tries: int = 8, timeout: float = 120.0):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(f"{url!r} is not the address of a service.", "Give one such as http://127.0.0.1:8000.")
        self.url, self.tries, self.timeout = url.rstrip("/"), tries, timeout
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener = _opener(parts.hostname or "")
        self.info = self._asked("/info")
        self.description = DataSetDescription.model_validate(self.info["description"])
        self.classes = self.description.class_names

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """The class map of one image at its own size; a path's file is sent as it is.

        Raises DataError where the image cannot be used, UserError where the service gives no answer.
        """
        body, pixels = _as_sent(image)
        labels = self.labels(body, str(image) if isinstance(image, str | Path) else "the image")
        return Prediction(labels, pixels, self.description)

    def labels(self, file: bytes, name: str = "the image") -> np.ndarray:
        """The class map (H, W), uint8, of an image's file; `name` is what errors call it. Raises as a call does."""
        answer = self._asked("/predict?format=runs", file, name)
        try:
            runs = np.repeat(np.array(answer["runs"]["classes"], np.uint8), answer["runs"]["lengths"])
            return runs.reshape(answer["height"], answer["width"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.url} does not answer as fastfcn does.", "Check the address.") from error

    def file_labels(self, paths: Sequence[Path], together: int = 4) -> Iterator[np.ndarray | DataError]:
        """The class map of each file, in order, or what is wrong with it; `together` are on their way at once."""
        with ThreadPoolExecutor(together, thread_name_prefix="sender") as senders:
            sent: deque[Future[np.ndarray | DataError]] = deque()
            try:
                for path in paths:
                    if len(sent) == together:
                        yield sent.popleft().result()
                    sent.append(senders.submit(self._file_labels, path))
                while sent:
                    yield sent.popleft().result()
            finally:
                senders.shutdown(wait=False, cancel_futures=True)

    def _file_labels(self, path: Path) -> np.ndarray | DataError:
        try:
            return self.labels(_file(path), str(path))
        except DataError as error:
            return error

    def _asked(self, path: str, body: bytes | None = None, name: str = "") -> dict[str, Any]:
        """The JSON answer of the service, after as many tries as it takes."""
        headers = self._headers | ({"Content-Type": "application/octet-stream"} if body is not None else {})
        attempt = 0
        while True:
            attempt += 1
            pause = min(LONGEST_PAUSE, 0.25 * 2**attempt)
            try:
                with self._opener.open(Request(self.url + path, body, headers), timeout=self.timeout) as answer:
                    return json.load(answer)
            except HTTPError as error:
                failure = self._failure(error, name)
                if error.code not in AGAIN:
                    raise failure from error
                pause = _retry_after(error, pause)
            except ValueError as error:
                raise UserError(f"{self.url} does not answer as fastfcn does.", "Check the address.") from error
            except (OSError, URLError, HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                failure = UserError(f"{self.url} does not answer: {reason}.", "Is `fastfcn serve` running there?")
            if attempt >= self.tries:
                raise failure
            sleep(pause * uniform(1.0, 1.25))  # so that those who were sent away together do not return together

    def _failure(self, error: HTTPError, name: str) -> UserError:
        """The service's own words as an error: of the image where that is at fault, else of the service."""
        try:
            problem = json.load(error)
            text, hint = str(problem["detail"]), str(problem.get("hint", ""))
        except (ValueError, KeyError, TypeError, OSError):
            text, hint = f"it answers with status {error.code}", ""
        if name and error.code in (400, 413, 415, 422, 504):
            return DataError(f"{name}: {text}", hint)
        if error.code == 401:
            hint = "Give it as `token`, or in the environment variable FASTFCN_TOKEN."
        return UserError(f"{self.url}: {text}", hint)


def _as_sent(image: str | Path | Image.Image | np.ndarray) -> tuple[bytes, np.ndarray]:
    """The file to send, and its pixels (H, W, 3)."""
    if isinstance(image, str | Path):
        return _file(Path(image)), read_image(Path(image))
    pixels = np.array(image.convert("RGB")) if isinstance(image, Image.Image) else image
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


def _opener(host: str) -> OpenerDirector:
    """Past a proxy where the service is on this machine."""
    return build_opener(ProxyHandler({})) if host in LOCAL else build_opener()


def _retry_after(error: HTTPError, otherwise: float) -> float:
    given = error.headers.get("Retry-After", "")
    return min(LONGEST_PAUSE, float(given)) if given.isascii() and given.isdecimal() else otherwise
