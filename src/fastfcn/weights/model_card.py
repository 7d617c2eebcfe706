"""The model card of a weights file: README.md with metadata, as the Hugging Face Hub shows it."""

from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from fastfcn.weights.info import score_line

CARD = """\
---
{metadata}
---

# {name}

Semantic segmentation with [fastfcn](https://pypi.org/project/fastfcn/): {summary}.

| | |
|---|---|
{facts}

## Usage

```bash
pip install fastfcn
fastfcn predict hf://{name} photos --out segmented
```

```python
import fastfcn

predictor = fastfcn.load("hf://{name}")
prediction = predictor("photo.jpg")
prediction.labels  # class indices (H, W)
prediction.overlay()  # RGB uint8 (H, W, 3)
```

## Classes

| | class | color |
|--:|---|---|
{classes}

## Recipe

All settings of the training:

```toml
{recipe}
```
"""


def model_card(name: str, info: dict[str, Any], recipe: str, license: str | None = None) -> str:
    """The card of the model `USER/NAME`, as text.

    `info`: what `fastfcn.weights.info.info` returns; `recipe`: its text; `license`: an identifier of the Hub's, such as
    "apache-2.0".
    """
    return CARD.format(
        metadata=_metadata(name, info, license).to_yaml(),
        name=name,
        summary=info["summary"].rstrip("."),
        facts="\n".join(f"| {key} | {_cell(value)} |" for key, value in _facts(info)),
        classes="\n".join(_class_rows(info["classes"])),
        recipe=recipe.strip(),
    )


def _metadata(name: str, info: dict[str, Any], license: str | None) -> ModelCardData:
    """What the Hub finds models by; with the mIoU as an evaluation result if it was saved with the weights."""
    miou = info["score"].get("miou")
    result = EvalResult(
        task_type="image-segmentation",
        task_name="Semantic segmentation",
        dataset_type=info["dataset"]["name"],
        dataset_name=info["dataset"]["title"],
        dataset_split=info["score"].get("split"),
        metric_type="mean_iou",
        metric_name="mIoU",
        metric_value=None if miou is None else round(miou, 2),
    )
    return ModelCardData(
        library_name="fastfcn",
        pipeline_tag="image-segmentation",
        license=license,
        tags=["semantic-segmentation", "fastfcn", info["network"]["backbone"]],
        model_name=None if miou is None else name,
        eval_results=None if miou is None else [result],
    )


def _facts(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    network, provenance = info["network"], info["made"]
    yield "recipe", f"`{info['recipe']}`"
    yield "network", f"{network['backbone']}, {network['neck']}, {network['head']}"
    if "bands" in network:
        yield "bands", ", ".join(map(str, network["bands"]))
    yield "parameters", f"{info['parameters']:,}"
    yield "dataset", info["dataset"]["title"]
    yield "score", score_line(info)
    if provenance:
        yield "created", f"{provenance['time']}, fastfcn {provenance['fastfcn']}, torch {provenance['torch']}"


def _class_rows(classes: list[dict[str, Any]]) -> Iterator[str]:
    for index, entry in enumerate(classes):
        red, green, blue = entry["color"]
        yield f"| {index} | {_cell(entry['name'])} | `#{red:02x}{green:02x}{blue:02x}` |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
