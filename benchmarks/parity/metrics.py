"""Compare fastfcn's metrics with mmsegmentation's IoUMetric.

Run in the comparison environment (README.md):

    python benchmarks/parity/metrics.py

Exits with 1 if anything differs.
"""

import time

import numpy as np
import record
import torch
from mmseg.evaluation import IoUMetric

from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.utils.sizes import IGNORE_INDEX

# Classes, number of maps, (height, width), share of ignored pixels, classes that never occur in the labels,
# and whether they are absent from the predictions too.
CASES = (
    (19, 4, (128, 256), 0.10, (), False),
    (19, 3, (97, 131), 0.30, (0, 7, 18), False),
    (19, 3, (97, 131), 0.30, (0, 7, 18), True),
    (150, 5, (81, 65), 0.05, tuple(range(100, 150)), True),
    (150, 2, (200, 300), 0.00, (), False),
    (2, 6, (33, 47), 0.50, (), False),
    (11, 2, (360, 480), 0.04, (10,), False),
    (171, 2, (240, 320), 0.20, (1, 2, 3), False),
)


def maps(case: tuple, generator: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs (prediction, label); about half of the predictions are right."""
    classes, count, size, ignored, absent, absent_in_both = case
    present = np.setdiff1d(np.arange(classes), absent)
    pairs = []
    for _ in range(count):
        label = generator.choice(present, size)
        guess = generator.choice(present if absent_in_both else np.arange(classes), size)
        prediction = np.where(generator.random(size) < 0.5, label, guess)
        label = np.where(generator.random(size) < ignored, IGNORE_INDEX, label)
        pairs.append((torch.from_numpy(prediction), torch.from_numpy(label)))
    return pairs


def theirs(classes: int, pairs: list) -> dict:
    """IoUMetric's areas, per-class IoU and accuracy, and rounded means."""
    metric = IoUMetric(ignore_index=IGNORE_INDEX)
    metric.dataset_meta = {"classes": tuple(map(str, range(classes)))}
    for prediction, label in pairs:
        metric.process({}, [{"pred_sem_seg": {"data": prediction}, "gt_sem_seg": {"data": label}}])
    areas = [sum(parts).numpy() for parts in zip(*metric.results, strict=True)]
    per_class = IoUMetric.total_area_to_metrics(*map(torch.from_numpy, areas))
    means = metric.compute_metrics(metric.results)
    return {"areas": areas, "IoU": per_class["IoU"], "Acc": per_class["Acc"], "means": means}


def compare(case: tuple, generator: np.random.Generator) -> dict:
    classes, pairs = case[0], maps(case, generator)
    expected = theirs(classes, pairs)
    matrix = ConfusionMatrix(classes)
    for prediction, label in pairs:
        matrix.update(prediction, label)
    scores = Scores(matrix.counts.numpy())
    counts = scores.counts
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    areas = zip((counts.diagonal(), union, counts.sum(0), counts.sum(1)), expected["areas"], strict=True)
    means = {"aAcc": scores.pixel_accuracy, "mIoU": scores.miou, "mAcc": scores.mean_accuracy}
    return {
        "classes": classes,
        "maps": case[1],
        "size": list(case[2]),
        "ignored": case[3],
        "absent": len(case[4]),
        "absent_in_predictions": case[5],
        "areas_equal": all(np.array_equal(ours, area) for ours, area in areas),
        "iou_difference": largest(scores.iou, 100 * expected["IoU"]),
        "accuracy_difference": largest(scores.accuracy, 100 * expected["Acc"]),
        "ours": {name: round(value, 6) for name, value in means.items()},
        "theirs": {name: round(float(expected["means"][name]), 2) for name in means},
        "equal": all(abs(value - expected["means"][name]) <= ROUNDING for name, value in means.items()),
    }


# IoUMetric rounds to two decimals after computing in float32.
ROUNDING = 0.005 + 1e-5


def largest(ours: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference in percentage points; infinite if different classes are nan."""
    if not np.array_equal(np.isnan(ours), np.isnan(expected)):
        return float("inf")
    return float(np.nanmax(np.abs(ours - expected)))


def lines(result: dict) -> list[str]:
    header = [
        "classes",
        "maps",
        "ignored",
        "absent",
        "areas",
        "largest difference of IoU and Acc",
        "mIoU",
        "mAcc",
        "aAcc",
    ]
    rows = []
    for case in result["cases"]:
        worst = max(case["iou_difference"], case["accuracy_difference"])
        size = f"{case['maps']} of {case['size'][0]}x{case['size'][1]}"
        where = "" if not case["absent"] else " in both" if case["absent_in_predictions"] else " in labels"
        row = [str(case["classes"]), size, f"{100 * case['ignored']:.0f} %", f"{case['absent']}{where}"]
        row += ["equal" if case["areas_equal"] else "DIFFER", f"{worst:.0e}"]
        row += [f"{case['ours'][name]:.4f} / {case['theirs'][name]:.2f}" for name in ("mIoU", "mAcc", "aAcc")]
        rows.append(row)
    return record.table(header, rows)


def main() -> None:
    start = time.monotonic()
    generator = np.random.default_rng(0)
    cases = [compare(case, generator) for case in CASES]
    result = record.circumstances(time.monotonic() - start) | {"cases": cases}
    record.write("parity_metrics", result)
    record.put_table("metrics", lines(result))
    wrong = [
        case
        for case in cases
        if not (case["areas_equal"] and case["equal"])
        or max(case["iou_difference"], case["accuracy_difference"]) > 1e-4
    ]
    print(f"{len(cases) - len(wrong)} of {len(cases)} cases equal")
    raise SystemExit("\n".join(map(str, wrong)) or 0)


if __name__ == "__main__":
    main()
