"""What an exported file says of itself: texts by name, the same in every format."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastfcn import recipes
from fastfcn.data.description import DataSetDescription
from fastfcn.errors import WeightsError
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.file import made

FORMAT = "fastfcn-export-1"


@dataclass(frozen=True)
class Contents:
    """`logits`: whether they are a second output; `precision`: "f32" or "int8"; `largest`: bound of an image's
    (height, width), None where there is none; `facts` and `made` as in a weights file."""

    recipe: Recipe
    description: DataSetDescription
    logits: bool = False
    precision: str = "f32"
    largest: tuple[int, int] | None = None
    facts: dict = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=made)

    def texts(self) -> dict[str, str]:
        """As they stand in the file. `classes` and `colors` repeat, for other programs, what is in `dataset`."""
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
        }


def read_contents(texts: Mapping[str, str], path: str | Path) -> Contents:
    """What the texts of `path` say. Raises WeightsError where `fastfcn export` did not write them."""
    try:
        if texts["format"] != FORMAT:
            raise WeightsError(f"{path} has the format {texts['format']!r}, not {FORMAT!r}.", "Export it again.")
        largest = json.loads(texts["largest"])
        return Contents(
            recipes.parse(texts["recipe"], f"the recipe in {path}"),
            DataSetDescription.model_validate_json(texts["dataset"]),
            "logits" in json.loads(texts["outputs"]),
            texts["precision"],
            (largest[0], largest[1]) if largest else None,
            json.loads(texts["facts"]),
            json.loads(texts["made"]),
        )
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} does not say which recipe and classes it holds; `fastfcn export` did not write it.",
            "Export a weights file: fastfcn export weights.safetensors --format onnx --out model.onnx",
        ) from error
