"""Fine-tune a network for other classes, from all of its weights and from its backbone alone.

    python benchmarks/fine_tuning.py --out runs/fine_tuning

Trains the demo's network on the nine classes of drawn streets. Then it trains for five classes, three of the same name
(sky, road, car), on a few other streets: once from the whole network, once from its backbone, with the same settings.
Writes benchmarks/results/fine_tuning.json. A few minutes on two CPU cores.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from fastfcn import recipes
from fastfcn.demo.streets import write_dataset
from fastfcn.training.run import TrainingResult
from fastfcn.training.train import train
from fastfcn.utils.files import write_text
from fastfcn.utils.machine import Machine

RESULT = Path(__file__).parent / "results" / "fine_tuning.json"
SIZE = (64, 96)
SMALL = [f"data.base_size={list(SIZE)}", f"data.crop={list(SIZE)}", "optim.batch=4"]
FIVE_CLASSES = """\
format = 1
name = "five"
title = "Drawn streets, 5 classes"
home = ""
labels_kind = "index"
folders = ["."]
images = ["images/{split}/{name}.png"]
labels = ["labels/{split}/{name}.png"]
lists = []
splits = { train = "train", val = "val" }
ignored = [{ name = "person", ids = [7] }]
classes = [
  { name = "car", color = [58, 92, 214], ids = [6] },
  { name = "plants", color = [52, 128, 74], ids = [4, 5] },
  { name = "sky", color = [142, 197, 234], ids = [0] },
  { name = "stone", color = [168, 134, 120], ids = [1, 3, 8] },
  { name = "road", color = [92, 92, 110], ids = [2] },
]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="new folder for data and runs")
    parser.add_argument("--steps", type=int, default=100, help="steps of fine-tuning")
    parser.add_argument("--first-steps", type=int, default=400, help="steps of the training on nine classes")
    args = parser.parse_args()
    streets = write_dataset(args.out / "streets", 64, 8, seed=0, size=SIZE)
    others = write_dataset(args.out / "others", 8, 24, seed=1, size=SIZE)
    write_text(args.out / "five.toml", FIVE_CLASSES)
    first = run([], streets, args.out / "first", args.first_steps)
    five = [f"data.dataset={args.out / 'five.toml'}", "optim.lr=0.02", "optim.head_lr_factor=5.0"]
    starts = {"whole network": f"load_from={first.weights}", "backbone alone": f"backbone.pretrained={first.weights}"}
    scores = {}
    for name, start in starts.items():
        result = run([*five, start], others, args.out / name.replace(" ", "_"), args.steps)
        losses = [line["loss"] for line in result.log() if "loss" in line]
        scores[name] = {"miou": result.miou, "mean_loss_of_the_first_10_steps": sum(losses[:10]) / 10}
        print(f"{name}: val mIoU {result.miou:.2f} after {args.steps} steps")
    record = {
        "command": "python benchmarks/fine_tuning.py --out runs/fine_tuning",
        "date": datetime.now(UTC).date().isoformat(),
        "steps": args.steps,
        "first": {"steps": args.first_steps, "miou": first.miou},
        "starts": scores,
    }
    write_text(RESULT, json.dumps(record, indent=1) + "\n")


def run(changes: list[str], data: Path, out: Path, steps: int) -> TrainingResult:
    """Train the demo's recipe; scores after the last step only."""
    length = [f"optim.steps={steps}", f"eval.every={steps}", "schedule.warmup_steps=10"]
    return train(recipes.load("demo", [*SMALL, *length, *changes]), data, out, Machine("cpu", workers=0))


if __name__ == "__main__":
    main()
