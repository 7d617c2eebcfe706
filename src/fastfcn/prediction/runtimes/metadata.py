"""Metadata of an exported file: strings by name, the same in every format."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastfcn.data.description import DatasetDescription
from fastfcn.errors import WeightsError
from fastfcn.prediction.runtimes.self_test import SelfTest
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.header import Header, parse_strings, provenance

FORMAT = "fastfcn-export-1"
LOGITS = ("logits", "scores")  # names of the second output; version 0.1 wrote "scores"


@dataclass(frozen=True)
class ExportMetadata:
    """What an exported file stores besides the network.

    Attributes:
        recipe, description: the recipe and the dataset description of the weights file.
        logits: whether logits are a second output.
        precision: "f32" or "int8".
        largest: largest (height, width) of an image; None if there is no limit.
        facts, made: as in a weights file.
        self_test: what the file computes for a small image; None in files of earlier versions.
    """

    recipe: Recipe
    description: DatasetDescription
    logits: bool = False
    precision: str = "f32"
    largest: tuple[int, int] | None = None
    facts: dict = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=provenance)
    self_test: SelfTest | None = None

    @property
    def header(self) -> Header:
        """What a weights file stores, too."""
        return Header(self.recipe, self.description, self.facts, self.made)

    def as_strings(self) -> dict[str, str]:
        """The strings to store. `classes` and `colors` repeat parts of `dataset`, for other programs to read."""
        return {
            "format": FORMAT,
            "version": self.made["fastfcn"],
            "recipe": self.recipe.text,
            "dataset": self.description.model_dump_json(),
            "classes": json.dumps(self.description.class_names),
            "colors": json.dumps([list(color) for color in self.description.colors]),
            "outputs": json.dumps(["labels", "logits"] if self.logits else ["labels"]),
            "precision": self.precision,
            "largest": json.dumps(self.largest),
            "facts": json.dumps(self.facts),
            "made": json.dumps(self.made),
            "self_test": json.dumps(self.self_test.as_json() if self.self_test else None),
        }


def parse_metadata(strings: Mapping[str, str], path: str | Path) -> ExportMetadata:
    """The metadata stored in `path`. Raises WeightsError if `fastfcn export` did not write the file."""
    try:
        if strings["format"] != FORMAT:
            raise WeightsError(f"{path} has the format {strings['format']!r}, not {FORMAT!r}.", "Export it again.")
        header = parse_strings(strings, path)
        return ExportMetadata(
            header.recipe,
            header.description,
            any(name in LOGITS for name in json.loads(strings["outputs"])),
            strings["precision"],
            _size(strings["largest"]),
            header.facts,
            header.made,
            _self_test(strings.get("self_test", "null")),
        )
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path} was not written by `fastfcn export`: it does not contain a recipe and classes.",
            "Export a weights file: fastfcn export weights.safetensors --format onnx --out model.onnx",
        ) from error


def _self_test(text: str) -> SelfTest | None:
    value = json.loads(text)
    return None if value is None else SelfTest.from_json(value)


def _size(text: str) -> tuple[int, int] | None:
    size = json.loads(text)
    if size is None:
        return None
    height, width = size
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"{text} is not a size")
    return height, width
