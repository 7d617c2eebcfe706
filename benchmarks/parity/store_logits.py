"""Store the values that tests/test_parity.py and tests/test_metrics_reference.py expect, computed by mmsegmentation.

Logits of networks whose weights are drawn from key names, and IoUMetric's values for random maps.

Run in the comparison environment (README.md):

    python benchmarks/parity/store_logits.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import openmmlab
import torch
from mmseg.evaluation import IoUMetric
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))
from tests.helpers import named_weights, random_maps  # noqa: E402

# The second is long enough at stride 8 (51 columns) that all dilations of ASPP matter.
SIZES = ((97, 65), (41, 401))
MAIN, AUXILIARY = 150, 40  # logits stored per image

# name, number of maps, classes, size, percent ignored, absent classes, absent from the predictions too
METRIC_CASES = (
    ("cityscapes", 3, 19, (64, 128), 10, (), False),
    ("absent_in_labels", 2, 19, (97, 61), 30, (0, 7, 18), False),
    ("absent_in_both", 2, 19, (97, 61), 30, (0, 7, 18), True),
    ("ade20k", 2, 150, (81, 65), 5, tuple(range(120, 150)), True),
    ("two_classes", 4, 2, (33, 47), 50, (), False),
)


def sample(logits: Tensor, count: int, seed: int) -> dict:
    """`count` logits at random positions of the flattened map, and the standard deviation of the whole map."""
    flat = logits.numpy().ravel()
    positions = np.sort(np.random.PCG64(seed).random_raw(count) % flat.size)
    return {
        "shape": list(logits.shape),
        "std": float(f"{flat.std():.7g}"),
        "positions": positions.tolist(),
        "logits": [float(f"{flat[position]:.7g}") for position in positions],
    }


def stored(architecture: openmmlab.Architecture) -> dict:
    model = openmmlab.build(architecture)
    drawn = named_weights.weights(architecture.head, architecture.classes, architecture.jpu)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in drawn}, strict=True)
    images = []
    for seed, size in enumerate(SIZES):
        image = torch.from_numpy(named_weights.image(*size))
        auxiliary, se_logits = openmmlab.side_logits(model, image)
        entry = {"size": list(size), "main": sample(openmmlab.logits(model, image), MAIN, seed)}
        entry["auxiliary"] = sample(auxiliary, AUXILIARY, seed)
        if se_logits is not None:
            entry["se"] = sample(se_logits, architecture.classes, seed)
        images.append(entry)
    return {
        "made_by": "benchmarks/parity/store_logits.py",
        "mmsegmentation": openmmlab.mmseg.__version__,
        "torch": torch.__version__,
        "config": architecture.config.name,
        "recipe": architecture.recipe,
        "head": architecture.head,
        "classes": architecture.classes,
        "jpu": architecture.jpu,
        "images": images,
    }


def metric_case(
    name: str, maps: int, classes: int, size: tuple, ignored_percent: int, absent: tuple, absent_in_both: bool
) -> dict:
    drawn = {
        "classes": classes,
        "size": list(size),
        "ignored_percent": ignored_percent,
        "absent": list(absent),
        "absent_in_both": absent_in_both,
    }
    metric = IoUMetric(ignore_index=random_maps.IGNORE_INDEX)
    metric.dataset_meta = {"classes": tuple(map(str, range(classes)))}
    for seed in range(maps):
        prediction, label = (torch.from_numpy(map_).long() for map_ in random_maps.draw(seed, **drawn))
        metric.process({}, [{"pred_sem_seg": {"data": prediction}, "gt_sem_seg": {"data": label}}])
    sums = [sum(parts).long().tolist() for parts in zip(*metric.results, strict=True)]
    areas = dict(zip(("intersection", "union", "predicted", "labeled"), sums, strict=True))
    means = {key: round(float(value), 2) for key, value in metric.compute_metrics(metric.results).items()}
    return {"name": name, "maps": maps, "drawn": drawn} | areas | means


def main() -> None:
    folder = REPOSITORY / "tests" / "stored" / "logits"
    folder.mkdir(exist_ok=True)
    cases = [metric_case(*case) for case in METRIC_CASES]
    metrics = {"mmsegmentation": openmmlab.mmseg.__version__, "cases": cases}
    (folder / "metrics.json").write_text(json.dumps(metrics) + "\n")
    for architecture in openmmlab.ARCHITECTURES:
        if architecture.classes == 19:
            path = folder / f"{architecture.name}.json"
            path.write_text(json.dumps(stored(architecture)) + "\n")
            print(path.relative_to(REPOSITORY), path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
