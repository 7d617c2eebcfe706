"""Answers: a prediction as label picture, overlay, run lengths or polygons."""

import io
import json
import zipfile
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from fastfcn.prediction.prediction import Prediction
from fastfcn.serving import problems
from fastfcn.serving.polygons import edge_count, polygons

MEDIA = {
    "runs": "application/json",
    "polygons": "application/geo+json",
    "labels": "image/png",
    "overlay": "image/jpeg",
}
KNOWN = ", ".join(MEDIA.values())
MOST_PIECES = 2_000_000  # runs, or sides of polygons: about 20 MB of JSON


@dataclass(frozen=True)
class Answer:
    """Bytes and their media type."""

    content: bytes
    media: str


def chosen_format(asked: str | None, accept: str) -> str:
    """The format that a query or an Accept header asks for, `runs` where neither does.

    Raises Problem: 422 for an unknown name, 406 where nothing that is accepted can be made.
    """
    if asked:
        if asked not in MEDIA:
            raise problems.wrong_parameter(f"format={asked[:30]!r} is none of {', '.join(MEDIA)}.")
        return asked
    wanted = [_media_range(each) for each in accept[:1000].split(",") if each.strip()]
    for kind, _ in sorted((each for each in wanted if each[1] > 0), key=lambda each: -each[1]):
        for name, media in MEDIA.items():
            if kind in (media, "*/*", media.split("/")[0] + "/*"):
                return name
    if wanted:
        raise problems.not_acceptable(accept, KNOWN)
    return "runs"


def _media_range(text: str) -> tuple[str, float]:
    """`image/png;q=0.5` -> ("image/png", 0.5)."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    for each in parameters:
        name, _, value = each.partition("=")
        if name == "q":
            try:
                return kind, float(value)
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def as_answer(prediction: Prediction, kind: str, opacity: float, facts: dict) -> Answer:
    """`prediction` in the format `kind`; JSON ones carry `facts` too. Raises Problem (413) for too much detail."""
    match kind:
        case "labels":
            return Answer(_encoded(prediction.label_image(), "PNG"), MEDIA[kind])
        case "overlay":
            return Answer(_encoded(Image.fromarray(prediction.overlay(opacity)), "JPEG", quality=92), MEDIA[kind])
        case "polygons":
            return Answer(_json(as_polygons(prediction) | facts), MEDIA[kind])
        case _:
            return Answer(_json(facts | as_runs(prediction)), MEDIA["runs"])


def as_runs(prediction: Prediction) -> dict:
    """Size, classes with their shares (0-1), the largest first, and the class map as run lengths, row by row."""
    flat = prediction.labels.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    if len(ends) > MOST_PIECES:
        raise problems.too_detailed(MOST_PIECES)
    height, width = prediction.labels.shape
    return {
        "height": height,
        "width": width,
        "classes": _classes(prediction),
        "runs": {"classes": flat[ends].tolist(), "lengths": np.diff(ends, prepend=-1).tolist()},
    }


def labels_of(answer: dict) -> np.ndarray:
    """The class map (H, W), uint8, of an answer of `as_runs`. Raises ValueError where it is none."""
    runs = answer["runs"]
    flat = np.repeat(np.asarray(runs["classes"], np.uint8), np.asarray(runs["lengths"], np.int64))
    return flat.reshape(answer["height"], answer["width"])


def as_polygons(prediction: Prediction) -> dict:
    """The class map as a GeoJSON FeatureCollection (RFC 7946), one feature a region, in pixels from the top left."""
    if edge_count(prediction.labels) > MOST_PIECES:
        raise problems.too_detailed(MOST_PIECES)
    classes, features = prediction.description.classes, []
    for each in polygons(prediction.labels):
        rings = [each.outline.tolist(), *(hole.tolist() for hole in each.holes)]
        features.append({
            "type": "Feature",
            "properties": {
                "index": each.index,
                "class": classes[each.index].name,
                "pixels": sum(_area(ring) for ring in rings),
            },
            "geometry": {"type": "Polygon", "coordinates": rings},
        })  # fmt: skip
    height, width = prediction.labels.shape
    shared = {"height": height, "width": width, "classes": _classes(prediction)}
    return {"type": "FeatureCollection", "features": features} | shared


def _area(ring: list[list[int]]) -> int:
    """Pixels in a ring; negative for a hole, which runs the other way round."""
    return sum(x * (below - y) for (x, y), (_, below) in pairwise(ring))


def _classes(prediction: Prediction) -> list[dict]:
    counts = np.bincount(prediction.labels.ravel())
    classes = prediction.description.classes
    return [
        {
            "index": int(index),
            "name": classes[index].name,
            "color": list(classes[index].color),
            "pixels": int(counts[index]),
            "share": float(counts[index] / prediction.labels.size),
        }
        for index in np.argsort(-counts, kind="stable")
        if counts[index]
    ]


def packed(answers: list[tuple[str, Answer]], facts: dict) -> Answer:
    """Pictures as a ZIP archive, with `facts` in its `answer.json`; names that occur again get a number."""
    stream, taken = io.BytesIO(), {"answer.json"}
    with zipfile.ZipFile(stream, "w") as archive:
        for given, answer in answers:
            name = free_name(given.rsplit(".", 1)[0], ".png" if answer.media == MEDIA["labels"] else ".jpg", taken)
            archive.writestr(name, answer.content)
        archive.writestr("answer.json", _json(facts))
    return Answer(stream.getvalue(), "application/zip")


def free_name(stem: str, suffix: str, taken: set[str]) -> str:
    """`stem` with `suffix`, and a number where that is among `taken`, to which it is added."""
    name, number = stem + suffix, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add(name)
    return name


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _json(value: dict) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
