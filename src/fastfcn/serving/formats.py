"""Response formats of a prediction: run lengths and polygons (JSON), label image (PNG), overlay (JPEG)."""

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fastfcn.prediction.image_outputs import encode_image, encode_json
from fastfcn.prediction.json_formats import class_list, geojson
from fastfcn.prediction.polygons import edge_count
from fastfcn.prediction.prediction import Prediction
from fastfcn.serving import problems

RESPONSE_TYPES = {
    "runs": "application/json",
    "polygons": "application/geo+json",
    "labels": "image/png",
    "overlay": "image/jpeg",
}
MAX_PIECES = 2_000_000  # runs, or edges of polygons: about 20 MB of JSON


@dataclass(frozen=True)
class Payload:
    """The body of a response and its media type."""

    content: bytes
    media_type: str


def choose_format(name: str | None, accept: str) -> str:
    """The format given by the query parameter `name` or the Accept header; `runs` without either.

    Raises Problem: 422 for an unknown name, 406 if no accepted media type is available.
    """
    if name:
        if name not in RESPONSE_TYPES:
            raise problems.wrong_parameter(f"Unknown format {name[:30]!r}; use one of {', '.join(RESPONSE_TYPES)}.")
        return name
    accepted = [_media_range(text) for text in accept[:1000].split(",") if text.strip()]
    by_quality = sorted((entry for entry in accepted if entry[1] > 0), key=lambda entry: -entry[1])
    for media_range, _ in by_quality:
        for format_name, media_type in RESPONSE_TYPES.items():
            if media_range in (media_type, "*/*", media_type.split("/")[0] + "/*"):
                return format_name
    if accepted:
        raise problems.not_acceptable(accept, ", ".join(RESPONSE_TYPES.values()))
    return "runs"


def _media_range(text: str) -> tuple[str, float]:
    """`image/png;q=0.5` -> ("image/png", 0.5)."""
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def as_payload(prediction: Prediction, format_name: str, opacity: float, details: dict) -> Payload:
    """`prediction` in a format of RESPONSE_TYPES; JSON includes `details`. Raises Problem (413) if too large."""
    match format_name:
        case "labels":
            return Payload(encode_image(prediction.label_image(), "PNG"), RESPONSE_TYPES[format_name])
        case "overlay":
            overlay = encode_image(Image.fromarray(prediction.overlay(opacity)), "JPEG", quality=92)
            return Payload(overlay, RESPONSE_TYPES[format_name])
        case "polygons":
            return Payload(encode_json(as_polygons(prediction) | details), RESPONSE_TYPES[format_name])
        case _:
            return Payload(encode_json(details | as_runs(prediction)), RESPONSE_TYPES["runs"])


def as_runs(prediction: Prediction) -> dict:
    """Size, classes with their shares (0-1), largest first, and the segmentation map as run lengths in row order."""
    flat = prediction.labels.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    if len(ends) > MAX_PIECES:
        raise problems.too_detailed(MAX_PIECES)
    height, width = prediction.labels.shape
    return {
        "height": height,
        "width": width,
        "classes": class_list(prediction),
        "runs": {"classes": flat[ends].tolist(), "lengths": np.diff(ends, prepend=-1).tolist()},
    }


def as_polygons(prediction: Prediction) -> dict:
    """The segmentation map as GeoJSON. Raises Problem (413) if that would be too large."""
    if edge_count(prediction.labels) > MAX_PIECES:
        raise problems.too_detailed(MAX_PIECES)
    return geojson(prediction)


def zip_archive(payloads: list[tuple[str, Payload]], details: dict) -> Payload:
    """Named images as a ZIP archive, with `details` in `results.json`; repeated names get a number."""
    stream, taken = io.BytesIO(), {"results.json"}
    with zipfile.ZipFile(stream, "w") as archive:
        for upload_name, payload in payloads:
            suffix = ".png" if payload.media_type == RESPONSE_TYPES["labels"] else ".jpg"
            archive.writestr(unused_name(upload_name.rsplit(".", 1)[0], suffix, taken), payload.content)
        archive.writestr("results.json", encode_json(details))
    return Payload(stream.getvalue(), "application/zip")


def unused_name(stem: str, suffix: str, taken: set[str]) -> str:
    """`stem` + `suffix`, with a number if it is in `taken`. The result is added to `taken`."""
    name, number = stem + suffix, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add(name)
    return name
