"""Predictions as JSON values: the classes in an image, its regions as GeoJSON polygons, and its masks as COCO RLE."""

from itertools import pairwise

import numpy as np

from fastfcn.prediction.polygons import polygons
from fastfcn.prediction.prediction import Prediction, class_ids


def class_list(prediction: Prediction) -> list[dict]:
    """The classes that occur in the image, with their colors, pixels and shares (0-1), largest first."""
    counts = prediction.pixels()
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


def geojson(prediction: Prediction) -> dict:
    """The segmentation map as a GeoJSON FeatureCollection (RFC 7946): one feature per region, in pixels."""
    classes, features = prediction.description.classes, []
    for polygon in polygons(prediction.labels):
        rings = [polygon.outline.tolist(), *(hole.tolist() for hole in polygon.holes)]
        features.append({
            "type": "Feature",
            "properties": {
                "index": polygon.index,
                "class": classes[polygon.index].name,
                "pixels": sum(_area(ring) for ring in rings),
            },
            "geometry": {"type": "Polygon", "coordinates": rings},
        })  # fmt: skip
    height, width = prediction.labels.shape
    common = {"height": height, "width": width, "classes": class_list(prediction)}
    return {"type": "FeatureCollection", "features": features} | common


def coco(prediction: Prediction) -> dict:
    """One annotation of COCO per class in the image, its mask as uncompressed RLE (column by column).

    `category_id` is the id of the class in the dataset's masks, as in label images. pycocotools reads the RLE with
    `mask.frPyObjects(annotation["segmentation"], height, width)`.
    """
    height, width = prediction.labels.shape
    ids = class_ids(prediction.description)
    annotations = []
    for entry in class_list(prediction):
        mask = prediction.labels == entry["index"]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        annotations.append({
            "category_id": ids[entry["index"]],
            "category": entry["name"],
            "area": entry["pixels"],
            "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
            "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
            "iscrowd": 1,
        })  # fmt: skip
    return {"height": height, "width": width, "annotations": annotations}


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask (H, W) in column order, of zeros and ones in turn, beginning with zeros."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *lengths] if flat[0] else lengths


def _area(ring: list[list[int]]) -> int:
    """Pixels inside a ring; negative for a hole, which has the opposite orientation."""
    return sum(x * (below - y) for (x, y), (_, below) in pairwise(ring))
