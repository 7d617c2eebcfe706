"""The Open Inference Protocol (version 2): its requests as images, and labels as its responses.

A request is JSON. Tensors are arrays in it, or binary data after it (the extension `binary_tensor_data`).
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import json
from base64 import b64decode
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastfcn.serving import problems
from fastfcn.serving.decoding import Limits, check_size, decode

if TYPE_CHECKING:
    from fastfcn.data.bands import BandReader

INPUT, OUTPUT = "image", "labels"
LABEL_TYPE = "UINT8"  # datasets have at most 254 classes
MODEL_VERSION = "1"
LENGTH_HEADER = "Inference-Header-Content-Length"  # bytes of JSON in front of binary data
EXTENSIONS = ["binary_tensor_data"]
MAX_ID = 64  # characters of a request's id
TOTAL_PIXELS = 4  # most pixels of all images of a request, in images of the largest size


@dataclass(frozen=True)
class Answer:
    """What a response repeats of its request: its `id`, and whether labels are `binary`."""

    id: str = ""
    binary: bool = False


def json_length(header: str | None, length: int) -> int:
    """Bytes of JSON in a body of `length` bytes, by the header LENGTH_HEADER. Raises Problem (400)."""
    if header is None:
        return length
    if not (header.isascii() and header.isdecimal() and int(header[:20]) <= length):
        raise problems.wrong_tensor(f"{LENGTH_HEADER} is not a length within the body")
    return int(header)


def read_request(
    body: bytes, json_bytes: int, limits: Limits, bands: "BandReader | None" = None
) -> tuple[np.ndarray, Answer]:
    """The images (B, H, W, C) of a request whose first `json_bytes` are JSON, and how to answer it.

    Images are a tensor [B, H, W, C], UINT8 for RGB, FP32 for bands; or encoded files of one size as a tensor [B] of
    BYTES, in base64 unless they are binary data. Raises Problem: 400 for a malformed request, the rest as `decode`.
    """
    request = _object(_parsed(body[:json_bytes]), "The request")
    answer = _answer(request)
    tensors = request.get("inputs")
    if not isinstance(tensors, list) or len(tensors) != 1:
        raise problems.wrong_tensor(f"the request needs exactly one input, {INPUT!r}")
    tensor = _object(tensors[0], "The input")
    if tensor.get("name") != INPUT:
        raise problems.wrong_tensor(f"the input must be called {INPUT!r}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise problems.wrong_tensor("the shape of the input must be a list of positive numbers")
    binary = _binary_data(tensor, body, json_bytes)
    if tensor.get("datatype") == "BYTES":
        return _decoded_files(_files(tensor, shape, binary, limits), limits, bands), answer
    return _pixels(tensor, shape, binary, limits, bands), answer


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise problems.wrong_tensor("the body is not JSON") from error


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise problems.wrong_tensor(f"{name} is not a JSON object")
    return value


def _answer(request: dict[str, Any]) -> Answer:
    """Raises Problem (400) for other outputs than the labels."""
    request_id, outputs = request.get("id", ""), request.get("outputs") or [{"name": OUTPUT}]
    if not isinstance(request_id, str) or len(request_id) > MAX_ID:
        raise problems.wrong_tensor(f"the id must be a text of at most {MAX_ID} characters")
    if not isinstance(outputs, list) or len(outputs) != 1 or _object(outputs[0], "The output").get("name") != OUTPUT:
        raise problems.wrong_tensor(f"the only output is {OUTPUT!r}")
    everything = _object(request.get("parameters", {}), "parameters").get("binary_data_output", False)
    return Answer(request_id, bool(_parameters(outputs[0]).get("binary_data", everything)))


def _parameters(tensor: dict[str, Any]) -> dict[str, Any]:
    return _object(tensor.get("parameters", {}), "parameters")


def _binary_data(tensor: dict[str, Any], body: bytes, json_bytes: int) -> memoryview | None:
    """The binary data of the only input; None if its data is JSON."""
    rest = memoryview(body)[json_bytes:]
    size = _parameters(tensor).get("binary_data_size")
    if size is None and "data" in tensor and not rest:
        return None
    if size is None or "data" in tensor or size != len(rest):
        raise problems.wrong_tensor(
            "the input needs either data or binary_data_size, which must be the number of bytes after the JSON"
        )
    return rest


def _files(tensor: dict[str, Any], shape: list[int], binary: memoryview | None, limits: Limits) -> list[bytes]:
    """The encoded files in a tensor of BYTES."""
    if prod(shape) > limits.images:
        raise problems.too_many_images(limits.images)
    files = _split(binary) if binary is not None else [_from_base64(text) for text in _flat(tensor["data"])]
    if len(files) != prod(shape):
        raise problems.wrong_tensor(f"the shape of the input says {prod(shape)} elements, but there are {len(files)}")
    return files


def _flat(data: Any) -> list:
    """The elements of nested lists, in order; nested as deeply as a sender likes."""
    elements, rest = [], [data]
    while rest:
        part = rest.pop()
        if isinstance(part, list):
            rest.extend(reversed(part))
        else:
            elements.append(part)
    return elements


def _from_base64(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise problems.wrong_tensor("elements of BYTES must be image files in base64") from error


def _split(data: memoryview) -> list[bytes]:
    """The elements of binary BYTES: each has its length in front, in 4 bytes (little-endian)."""
    elements, start = [], 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if end > len(data):
            raise problems.wrong_tensor("the binary data ends within an element")
        elements.append(bytes(data[start + 4 : end]))
        start = end
    return elements


def _decoded_files(files: list[bytes], limits: Limits, bands: "BandReader | None") -> np.ndarray:
    images: list[np.ndarray] = []
    for data in files:
        images.append(decode(data, limits, bands))
        _check_total((len(files), *images[0].shape[:2]), limits)
        if images[-1].shape != images[0].shape:
            raise problems.wrong_tensor("the images have several sizes, which one tensor of labels cannot have")
    return np.stack(images)


def _pixels(
    tensor: dict[str, Any], shape: list[int], binary: memoryview | None, limits: Limits, bands: "BandReader | None"
) -> np.ndarray:
    dtype, name = image_type(bands)
    channels = bands.channels if bands else 3
    if tensor.get("datatype") != name or len(shape) != 4 or shape[3] != channels:
        raise problems.wrong_tensor(f"the input must be {name} of shape [batch, height, width, {channels}], or BYTES")
    check_size((shape[1], shape[2]), limits)
    _check_total((shape[0], shape[1], shape[2]), limits)
    if binary is None:
        flat = _numbers(tensor["data"], dtype)
    elif len(binary) == prod(shape) * dtype.itemsize:
        flat = np.frombuffer(binary, dtype)
    else:
        raise problems.wrong_tensor(f"a tensor of shape {shape} has other than {len(binary)} bytes")
    if flat.size != prod(shape):
        raise problems.wrong_tensor(f"a tensor of shape {shape} has other than {flat.size} elements")
    if not np.isfinite(flat).all():
        raise problems.wrong_tensor("values of the image must be finite")
    return flat.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _numbers(data: Any, dtype: np.dtype) -> np.ndarray:
    """The values of a JSON array, flat or nested."""
    try:
        array = np.asarray(data).ravel()
    except (ValueError, OverflowError, RecursionError) as error:  # lists of several lengths
        raise problems.wrong_tensor("the data is not an array of numbers") from error
    kinds = "iu" if dtype.kind == "u" else "iuf"
    if array.dtype.kind not in kinds:
        raise problems.wrong_tensor("the data is not an array of numbers of its datatype")
    if dtype.kind == "u" and array.size and not 0 <= array.min() <= array.max() <= np.iinfo(dtype).max:
        raise problems.wrong_tensor("values of UINT8 must be between 0 and 255")
    return array.astype(dtype)


def _check_total(size: tuple[int, int, int], limits: Limits) -> None:
    """Raise Problem (413) for too many images, or too many pixels of all of them."""
    if size[0] > limits.images:
        raise problems.too_many_images(limits.images)
    if prod(size) > TOTAL_PIXELS * limits.pixels:
        raise problems.too_many_pixels((size[0] * size[1], size[2]), TOTAL_PIXELS * limits.pixels)


def image_type(bands: "BandReader | None") -> tuple[np.dtype, str]:
    """Type of image tensors, little-endian, and its name in the protocol."""
    return (np.dtype("<f4"), "FP32") if bands else (np.dtype("u1"), "UINT8")


def model_metadata(name: str, bands: "BandReader | None") -> dict[str, Any]:
    """The response to `GET /v2/models/NAME`."""
    channels = bands.channels if bands else 3
    return {
        "name": name,
        "versions": [MODEL_VERSION],
        "platform": "fastfcn",
        "inputs": [{"name": INPUT, "datatype": image_type(bands)[1], "shape": [-1, -1, -1, channels]}],
        "outputs": [{"name": OUTPUT, "datatype": LABEL_TYPE, "shape": [-1, -1, -1]}],
    }


def response(labels: np.ndarray, classes: int, name: str, answer: Answer) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the response to an inference request, with labels (B, H, W)."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": LABEL_TYPE, "shape": list(labels.shape)}
    head: dict[str, Any] = {"model_name": name, "model_version": MODEL_VERSION}
    head |= {"id": answer.id} if answer.id else {}
    if answer.binary:
        data = labels.astype(np.uint8, copy=False).tobytes()
        text = json.dumps(head | {"outputs": [output | {"parameters": {"binary_data_size": len(data)}}]}).encode()
        return text + data, {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(text))}
    empty = json.dumps(head | {"outputs": [output | {"data": []}]}).encode()
    content = empty.removesuffix(b"]}]}") + _json_numbers(labels, classes) + b"]}]}"
    return content, {"Content-Type": "application/json"}


def _json_numbers(labels: np.ndarray, classes: int) -> bytes:
    """Labels separated by commas, each padded to the same width: `json.dumps` takes seconds for large images."""
    width = len(str(classes - 1))
    numbers = np.array([f"{label:>{width}},".encode() for label in range(classes)])
    return numbers[labels.ravel()].tobytes()[:-1]
