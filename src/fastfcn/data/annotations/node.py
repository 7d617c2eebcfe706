"""Values of JSON files whose types are not known: every access is checked, and errors say where in the file."""

import array
import base64
import binascii
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.data.decoding import MAX_BYTES, open_image, require_regular
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size
from fastfcn.utils.text import decode

MAX_JSON_BYTES = 4 * 2**30  # the annotations of COCO's 118,000 training images are 450 MB
MAX_NUMBER = 2**53  # ids and sizes; larger ones are not exact as floating-point numbers
SHOWN = 40  # characters of a wrong value in a message


class Node:
    """A value of a JSON file and its place in it, such as `shapes[3].points`."""

    __slots__ = ("place", "value")

    def __init__(self, value: Any, place: str = ""):
        self.value, self.place = value, place

    def __getitem__(self, key: str) -> "Node":
        """A key that has to exist."""
        node = self.get(key)
        if node is None:
            raise DataError(f"{self._at}the key {key!r} is missing")
        return node

    def get(self, key: str) -> "Node | None":
        """A key that may be missing or null."""
        if not isinstance(self.value, dict):
            raise self.error("an object")
        value = self.value.get(key)
        return None if value is None else Node(value, f"{self.place}.{key}" if self.place else key)

    def items(self, key: str) -> Iterator["Node"]:
        """The elements of the list at a key; none if it is missing."""
        node = self.get(key)
        return iter(()) if node is None else node.elements()

    def elements(self) -> Iterator["Node"]:
        """The elements of a list."""
        if not isinstance(self.value, list):
            raise self.error("a list")
        return (Node(value, f"{self.place}[{index}]") for index, value in enumerate(self.value))

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.error("text")
        return self.value

    def name(self) -> str:
        """The name of a class, without surrounding white space."""
        return self.text().strip()

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not abs(self.value) < MAX_NUMBER:
            raise self.error("a number")
        return float(self.value)

    def integer(self, largest: int = 2**31) -> int:
        """An integer from 0 on."""
        if not 0 <= (number := self.number()) <= largest or number != int(number):
            raise self.error(f"an integer from 0 to {largest}")
        return int(number)

    def size(self, height: str = "height", width: str = "width") -> Size | None:
        """A size in two keys, None if both are missing."""
        nodes = self.get(height), self.get(width)
        return None if None in nodes else (nodes[0].integer(), nodes[1].integer())  # type: ignore[union-attr]

    def numbers(self) -> np.ndarray:
        """A list of numbers, float64 (N,)."""
        values = self._array()
        if values.ndim != 1:
            raise self.error("a list of numbers")
        return values

    def points(self) -> np.ndarray:
        """A list of pairs of numbers, float64 (N, 2)."""
        values = self._array()
        if values.size == 0:
            return np.zeros((0, 2))
        if values.ndim != 2 or values.shape[1] != 2:
            raise self.error("a list of points")
        return values

    def _array(self) -> np.ndarray:
        try:
            values = np.asarray(self.value if isinstance(self.value, list | array.array) else None)
        except (ValueError, OverflowError):
            raise self.error("a list of numbers") from None
        if values.size and values.dtype.kind not in "iuf":
            raise self.error("a list of numbers")
        if not np.isfinite(values).all():
            raise self.error("a list of finite numbers")
        return values.astype(np.float64)

    def error(self, expected: str) -> DataError:
        """An error that says what was expected in this place."""
        shown = repr(self.value)[:SHOWN] if not isinstance(self.value, list | dict) else type(self.value).__name__
        return DataError(f"{self._at}expected {expected}, not {shown}")

    @property
    def _at(self) -> str:
        return f"{self.place}: " if self.place else ""


def read_json(path: Path, object_hook: Callable[[dict], Any] | None = None) -> Node:
    """The content of a JSON file; `object_hook` may replace each object. Raises DataError."""
    try:
        require_regular(path)
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"it is larger than {MAX_JSON_BYTES // 2**30} GiB")
        text = decode(path.read_bytes(), "it")
        return Node(json.loads(text, parse_constant=_no_number, object_hook=object_hook))
    except OSError as error:
        raise DataError(f"it cannot be read: {(error.strerror or str(error)).lower()}") from error
    except RecursionError as error:
        raise DataError("it is not valid JSON: it is nested too deeply") from error
    except ValueError as error:
        raise DataError(f"it is not valid JSON: {str(error).splitlines()[0]}") from error


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def base64_bytes(node: Node, largest: int = MAX_BYTES) -> bytes:
    """The bytes in base64 text, also with a `data:` prefix. Raises DataError, also for more than `largest`."""
    text = node.text()
    text = text.partition(",")[2] if text.startswith("data:") else text
    if len(text) > largest // 3 * 4 + 4:
        raise DataError(f"{node.place}: it is longer than an image of this size can be")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{node.place}: it is not valid base64 ({error})") from error


def inflated(data: bytes, largest: int, place: str) -> bytes:
    """Decompress zlib data of at most `largest` bytes. Raises DataError."""
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, largest + 1)
    except zlib.error as error:
        raise DataError(f"{place}: its compressed data are damaged ({error})") from error
    if len(result) > largest or not stream.eof:
        raise DataError(f"{place}: its compressed data are incomplete, or larger than an image of this size can be")
    return result


def bitmap(data: bytes, size: Size, place: str) -> np.ndarray:
    """The pixels of a small mask image that are not transparent or 0, bool (H, W). Raises DataError.

    `size`: the image in which the mask is, which limits its size.
    """
    with open_image(io.BytesIO(data), place) as image:
        if image.height > size[0] or image.width > size[1]:
            raise DataError(
                f"{place}: the mask has {image.height} x {image.width} pixels (height x width), more than the image "
                f"({size[0]} x {size[1]})"
            )
        if image.mode in ("RGBA", "LA"):
            return np.asarray(image.getchannel("A")) > 0
        values = np.asarray(image)
        return (values if values.ndim == 2 else values[..., 0]) > 0


def bitmap_limit(size: Size) -> int:
    """The largest number of bytes of a PNG file of `size`, in colors."""
    return 4 * size[0] * size[1] + 2**20
