"""Request bodies, responses and problems for `/openapi.json`, with examples."""

from http import HTTPStatus
from typing import Any

from fastfcn.serving.decoding import MEDIA_TYPES
from fastfcn.serving.problems import MEDIA_TYPE

BINARY = {"type": "string", "format": "binary"}
RUNS = {
    "request_id": "5d0f6d1f0a2b4b7f9a4b5a3f6d1c2e3b",
    "model": "weights",
    "height": 2,
    "width": 4,
    "classes": [
        {"index": 2, "name": "road", "color": [128, 64, 128], "pixels": 6, "share": 0.75},
        {"index": 0, "name": "sky", "color": [70, 130, 180], "pixels": 2, "share": 0.25},
    ],
    "runs": {"classes": [0, 2], "lengths": [2, 6]},
    "name": "street.jpg",
    "milliseconds": {"decode": 2.1, "wait": 0.1, "infer": 48.0},
    "batch_size": 1,
}
POLYGONS = {
    "type": "FeatureCollection",
    "features": [{
        "type": "Feature",
        "properties": {"index": 2, "class": "road", "pixels": 8},
        "geometry": {"type": "Polygon", "coordinates": [[[4, 0], [4, 2], [0, 2], [0, 0], [4, 0]]]},
    }],
    "height": 2,
    "width": 4,
}  # fmt: skip
PROBLEMS = {
    400: ("broken-form", "The multipart/form-data body is malformed."),
    401: ("unauthorized", "A valid bearer token is required."),
    403: ("foreign-origin", "Requests from other origins are not allowed."),
    406: ("not-acceptable", "No response of type 'text/html' is available."),
    408: ("slow", "The upload took longer than 30 s."),
    413: ("too-many-pixels", "The image has 20000 x 20000 pixels; the limit is 8.39 million."),
    415: ("unknown-format", "Unsupported file type: a GIF."),
    422: ("broken-image", "The image cannot be decoded: image file is truncated."),
    503: ("busy", "The queue is full."),
    504: ("late", "No result within 60 s."),
}


def request_body(batch: bool) -> dict[str, Any]:
    """The body of `POST /predict` or `/predict/batch`: a form, or for a single image its bytes."""
    files: dict[str, Any] = {"images": {"type": "array", "items": BINARY}} if batch else {"image": BINARY}
    form = {"schema": {"type": "object", "properties": files, "required": list(files)}}
    raw = {} if batch else {kind: {"schema": BINARY} for kind in MEDIA_TYPES}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form} | raw}}


def responses(batch: bool) -> dict[int | str, dict[str, Any]]:
    """Responses of a prediction by status."""
    results = {"results": [RUNS | {"status": 200}, problem(422) | {"name": "broken.jpg"}]}
    content: dict[str, Any] = {"application/json": {"example": results if batch else RUNS}}
    if batch:
        content["application/zip"] = {"schema": BINARY}
    else:
        content |= {"application/geo+json": {"example": POLYGONS}}
        content |= {"image/png": {"schema": BINARY}, "image/jpeg": {"schema": BINARY}}
    busy = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait before retrying."}}
    errors = {
        status: {
            "description": detail,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": problem(status)}},
        }
        | ({"headers": busy} if status == 503 else {})
        for status, (_, detail) in PROBLEMS.items()
    }
    return {200: {"description": "The segmentation.", "content": content}, **errors}


def problem(status: int) -> dict[str, Any]:
    """An example problem."""
    code, detail = PROBLEMS[status]
    example = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return example | ({"retry_after": 3} if status == 503 else {}) | {"request_id": RUNS["request_id"]}


def infer_request() -> dict[str, Any]:
    """The body of an inference request of the Open Inference Protocol."""
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 2, 3], "data": [128, 64, 128, 70, 130, 180]}
    content = {"application/json": {"schema": {"type": "object"}, "example": {"id": "1", "inputs": [image]}}}
    return {"requestBody": {"required": True, "content": content | {"application/octet-stream": {"schema": BINARY}}}}


def infer_responses() -> dict[int | str, dict[str, Any]]:
    """Responses to an inference request by status."""
    labels = {"name": "labels", "datatype": "UINT8", "shape": [1, 1, 2], "data": [2, 0]}
    example = {"model_name": "weights", "model_version": "1", "id": "1", "outputs": [labels]}
    content = {"application/json": {"example": example}, "application/octet-stream": {"schema": BINARY}}
    return responses(False) | {200: {"description": "The labels.", "content": content}}


PROBLEM_SCHEMA = {
    "type": "object",
    "description": "Problem details (RFC 9457). `code` is stable; `detail` and `hint` are for people.",
    "required": ["status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "retry_after": {"type": "integer"},
        "request_id": {"type": "string"},
    },
}
