"""A model card: what a weights file is and how to use it, as the Hub shows it (README.md with a YAML head)."""

import json
from collections.abc import Iterator
from typing import Any

CARD = """\
# {name}

Semantic segmentation with [fastfcn](https://pypi.org/project/fastfcn/): {summary}.

| | |
|---|---|
{facts}

## Use it

```bash
pip install fastfcn
fastfcn predict hf://{name} photos --out coloured
```

```python
import fastfcn

predictor = fastfcn.load("hf://{name}")
prediction = predictor("photo.jpg")
prediction.labels  # class indices (H, W)
prediction.overlay()  # RGB uint8 (H, W, 3)
```

## Classes

| | class | colour |
|--:|---|---|
{classes}

## Recipe

Everything that was decided for the training:

```toml
{recipe}
```
"""


def model_card(name: str, about: dict[str, Any], recipe: str, score: str, licence: str | None = None) -> str:
    """README.md of `USER/NAME` from what `info` says; `score` in words; `licence`: the Hub's word for it."""
    return f"---\n{_head(name, about, licence)}---\n\n" + CARD.format(
        name=name,
        summary=about["summary"].rstrip("."),
        facts="\n".join(f"| {key} | {_cell(value)} |" for key, value in _facts(about, score)),
        classes="\n".join(_class_rows(about["classes"])),
        recipe=recipe.strip(),
    )


def _head(name: str, about: dict[str, Any], licence: str | None) -> str:
    """YAML by which the Hub sorts models; JSON texts and lists are YAML."""
    lines = ["library_name: fastfcn", "pipeline_tag: image-segmentation"]
    lines += [f"license: {json.dumps(licence)}"] if licence else []
    lines.append(f"tags: {json.dumps(['semantic-segmentation', 'fastfcn', about['network']['backbone']])}")
    miou = about["score"].get("miou")
    if miou is not None:
        dataset = {"name": about["dataset"]["title"], "type": about["dataset"]["name"]}
        if "split" in about["score"]:
            dataset["split"] = about["score"]["split"]
        result = {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": dataset,
            "metrics": [{"type": "mean_iou", "name": "mIoU", "value": round(miou, 2)}],
        }
        lines.append(f"model-index: {json.dumps([{'name': name, 'results': [result]}], ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _facts(about: dict[str, Any], score: str) -> Iterator[tuple[str, str]]:
    parts, made = about["network"], about["made"]
    yield "recipe", f"`{about['recipe']}`"
    yield "network", f"{parts['backbone']}, {parts['neck']}, {parts['head']}"
    yield "parameters", f"{about['parameters']:,}"
    yield "data set", about["dataset"]["title"]
    yield "score", score
    if made:
        yield "made", f"{made['time']}, fastfcn {made['fastfcn']}, torch {made['torch']}"


def _class_rows(classes: list[dict[str, Any]]) -> Iterator[str]:
    for index, entry in enumerate(classes):
        red, green, blue = entry["color"]
        yield f"| {index} | {_cell(entry['name'])} | `#{red:02x}{green:02x}{blue:02x}` |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
