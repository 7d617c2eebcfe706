"""Correctness on an NVIDIA GPU: kernels, CUDA graphs, losses and networks against the CPU; a part of gpu.py.

    PYTHONPATH=src:. python benchmarks/gpu_checks.py --device cuda --out benchmarks/results/gpu_checks.json

With `--device cpu` the same program runs at tiny sizes, and what needs a GPU is skipped. Exits with 1 if a check fails.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import torch
from tests.helpers import named_weights
from tests.helpers.paths import STORED
from torch import Tensor, nn

from fastfcn import build, losses, recipes
from fastfcn.metrics import ConfusionMatrix
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import upsample_labels
from fastfcn.prediction.predictor import TorchPredictor
from fastfcn.training.prepare import prepare
from fastfcn.training.train import train_step
from fastfcn.utils.machine import Machine
from fastfcn.weights.openmmlab import from_openmmlab
from gpu_record import PASSED, Record

NETWORKS = (
    "fastfcn_r50_psp_cityscapes_80k_b8",
    "fastfcn_r50_enc_cityscapes_80k_b8",
    "fastfcn_r50_aspp_cityscapes_80k_b8",
    "fastfcn_mobilenetv4_jpu_m_camvid",
    "fastfcn_convnext_tiny_jpu_m_camvid",
)
SMALL = (
    'backbone={kind="pyramid", name="test_resnet", pretrained="none"}', "neck.width=8", "head.width=8",
    "auxiliary.width=8",
)  # fmt: skip
LEAST_EQUAL = {"32-true": 0.999, "bf16-mixed": 0.95}  # share of labels; the classes of random weights are close
STORED_TOLERANCE = 5e-4  # of logits whose standard deviation is 3
LOSSES = (
    losses.CrossEntropy(), losses.WeightedCrossEntropy((1.0, 2.0, 0.5, 1.0, 1.0)), losses.SmoothedCrossEntropy(0.1),
    losses.FocalLoss(2.0), losses.BoundaryCrossEntropy(3.0, 2), losses.HardPixels(0.7, 0.1),
    losses.DiceLoss(0.7, 0.5), losses.TverskyLoss(0.3, 0.7, 0.7, 0.5), losses.LovaszLoss(0.7, 0.5),
)  # fmt: skip


class CheckError(Exception):
    """A result that is wrong."""


def require(right: bool, text: str) -> None:
    if not right:
        raise CheckError(text)


class Checks:
    """All checks on one device; on a CPU at tiny sizes."""

    def __init__(self, device: str):
        self.device, self.on_gpu = device, device == "cuda"
        self.size = (512, 1024) if self.on_gpu else (64, 96)
        self.networks = NETWORKS if self.on_gpu else NETWORKS[:2]

    def all(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Name and function of each check."""
        yield "labels kernel equals resize and argmax", self.labels_kernel
        for path in sorted((STORED / "logits").glob("fastfcn_*_19.json"))[: 3 if self.on_gpu else 0]:
            yield f"logits of mmsegmentation, {path.stem}", lambda path=path: self.stored_logits(path)
        for name in self.networks:
            for precision in LEAST_EQUAL:
                yield f"labels, {name}, {precision}", lambda name=name, p=precision: self.labels(name, p)
        yield "one predictor in two threads", self.threads
        for loss in LOSSES:
            yield f"{type(loss).__name__} and its gradient", lambda loss=loss: self.loss(loss)
        yield "confusion matrix", self.confusion_matrix
        yield "losses of three training steps", self.training_steps
        yield "no wait for the GPU in prediction and training", self.waits

    def labels_kernel(self) -> str:
        if not self.on_gpu:
            return "skipped: needs a GPU"
        from fastfcn.kernels.labels_triton import upsample_labels as kernel

        shapes = (
            ((1, 19, 128, 256), (1024, 2048)), ((2, 150, 64, 64), (512, 512)), ((1, 19, 33, 17), (259, 131)),
            ((1, 2, 1, 4), (8, 32)), ((1, 5, 6, 1), (48, 8)),
        )  # fmt: skip
        worst = 1.0
        for shape, size in shapes:
            for dtype in (torch.float32, torch.bfloat16):
                logits = torch.randn(shape, device=self.device).to(dtype, memory_format=torch.channels_last)
                share = equal(kernel(logits, *size, False), upsample_labels(logits.float(), [size]))
                worst = min(worst, share)
                require(share > 0.999, f"{shape} {dtype}: {share:.5f} equal")
        return f"{PASSED}: at least {worst:.5%} equal"

    def stored_logits(self, path: Path) -> str:
        stored = json.loads(path.read_text())
        model = build.network(recipes.load(stored["recipe"]), stored["classes"])
        drawn = named_weights.weights(stored["head"], stored["classes"], stored["jpu"])
        model.load_state_dict(from_openmmlab({key: torch.from_numpy(value) for key, value in drawn}))
        model.eval().to(self.device)
        worst = 0.0
        with torch.no_grad(), float32_convolutions():
            for entry in stored["images"]:
                logits = model(torch.from_numpy(named_weights.image(*entry["size"])).to(self.device)).cpu()
                sample = entry["main"]
                ours = logits.flatten()[torch.tensor(sample["positions"])].numpy()
                worst = max(worst, float(np.abs(ours - np.array(sample["logits"])).max() / sample["std"] * 3.0))
        require(worst <= STORED_TOLERANCE, f"they differ by {worst:.2g}")
        return f"{PASSED}: they differ by at most {worst:.2g}"

    def labels(self, name: str, precision: str) -> str:
        """Several calls on the device, of which the later ones replay a CUDA graph, against the CPU in float32."""
        images = [picture(self.size, seed)[None] for seed in range(2)]
        expected = [self.predictor(name, "32-true", "cpu").labels(image) for image in images]
        ours = self.predictor(name, precision, self.device)
        with float32_convolutions():
            shares = [equal(ours.labels(image), known) for image, known in list(zip(images, expected, strict=True)) * 3]
        require(min(shares) >= LEAST_EQUAL[precision], f"{min(shares):.4%} equal")
        return f"{PASSED}: {min(shares):.4%} equal, {len(np.unique(expected))} classes"

    def threads(self) -> str:
        ours = self.predictor(self.networks[0], "bf16-mixed" if self.on_gpu else "32-true", self.device)
        images = [picture(self.size, seed)[None] for seed in (5, 6)]
        expected = [[ours.labels(image) for _ in range(3)][-1] for image in images]
        calls = 100 if self.on_gpu else 2

        def wrong(index: int) -> int:
            return sum(equal(ours.labels(images[index]), expected[index]) < 0.99 for _ in range(calls))

        with ThreadPoolExecutor(2) as pool:
            counts = list(pool.map(wrong, range(2)))
        require(not any(counts), f"{counts} of {calls} wrong")
        return f"{PASSED}: {2 * calls} maps"

    def loss(self, kind: losses.PixelLoss) -> str:
        """Loss and gradient in float32 on the device, against float64 on the CPU."""
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 5, 16, 24, generator=generator)
        labels = torch.randint(0, 4, (2, 128, 192), generator=generator, dtype=torch.uint8)
        labels[:, :9] = 255
        terms = losses.LossTerms("labeled", False, kind)
        values = []
        for device, dtype in ((self.device, torch.float32), ("cpu", torch.float64)):
            leaf = logits.to(device, dtype).requires_grad_()
            pixels = torch.tensor(1000.0, device=device)
            value = losses.segmentation_loss(leaf, {}, labels.to(device), terms, pixels, 2)["loss"]
            values.append((value.detach().cpu().double(), torch.autograd.grad(value, leaf)[0].cpu().double()))
        (value, slope), (exact, exact_slope) = values
        difference = max(relative(value, exact), relative(slope, exact_slope))
        require(difference < 1e-3, f"relative difference {difference:.2g}")
        return f"{PASSED}: relative difference {difference:.2g}"

    def confusion_matrix(self) -> str:
        labels = torch.randint(0, 150, (2, 256, 256), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        labels[1, ::3] = 255
        ours, theirs = ConfusionMatrix(150, self.device), ConfusionMatrix(150)
        ours.update(labels[0].to(self.device), labels[1].to(self.device))
        theirs.update(labels[0], labels[1])
        require(torch.equal(ours.counts.cpu(), theirs.counts), "the counts differ")
        return PASSED

    def training_steps(self) -> str:
        """In float32, without dropout, against the CPU."""
        changes = ("head.dropout=0.0", "auxiliary.dropout=0.0", *SMALL)
        with float32_convolutions():
            ours, theirs = (
                [float(step()["loss"]) for _ in range(3)]
                for step in (self.training(device, "32-true", changes) for device in (self.device, "cpu"))
            )
        require(np.allclose(ours, theirs, rtol=5e-3), f"{ours} instead of {theirs}")
        return f"{PASSED}: {ours[-1]:.5f} and {theirs[-1]:.5f}"

    def waits(self) -> str:
        if not self.on_gpu:
            return "skipped: needs a GPU"
        network = self.predictor(self.networks[0], "bf16-mixed", self.device).network
        images = torch.randn(1, 3, *self.size, device=self.device)
        labels = torch.zeros(300, 301, dtype=torch.uint8, device=self.device)
        matrix = ConfusionMatrix(19, self.device)

        @torch.inference_mode()
        def evaluate() -> None:
            with torch.autocast("cuda", torch.bfloat16):
                matrix.update(network.labels(images, (300, 301))[0], labels)

        step = self.training(self.device, "bf16-mixed", ())
        for call in (evaluate, step):
            for _ in range(3):
                call()
            torch.cuda.set_sync_debug_mode("error")
            try:
                call()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return PASSED

    def changes(self) -> tuple[str, ...]:
        return () if self.on_gpu else SMALL

    def predictor(self, name: str, precision: str, device: str) -> TorchPredictor:
        """A network with random weights that predicts several classes."""
        recipe = recipes.load(name, self.changes())
        description = build.description(recipe)
        torch.manual_seed(0)
        network = build.network(recipe, len(description.classes))
        give_statistics(network)
        return TorchPredictor(network, recipe, description, device, precision)

    def training(self, device: str, precision: str, changes: tuple[str, ...]) -> Callable[[], dict[str, Tensor]]:
        """A training step of CamVid's network on random crops that stay in main memory."""
        recipe = recipes.load("fastfcn_r18_psp_camvid", ('backbone.pretrained="none"', *changes, *self.changes()))
        torch.manual_seed(0)
        network = build.network(recipe, 11, training=True)
        machine = Machine(device, workers=0, precision=precision)
        fabric = machine.launch()
        prepare(network, machine, fabric.device)
        model, optimizer = fabric.setup(network, build.optimizer(recipe, network))
        model.mark_forward_method("forward_train")
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, 3, 64, 96, generator=generator)
        labels = torch.randint(0, 11, (2, 64, 96), generator=generator, dtype=torch.uint8)
        batch = (images.pin_memory(), labels.pin_memory()) if device == "cuda" else (images, labels)
        batches, steps = iter(lambda: fabric.to_device(batch), None), count()
        return lambda: train_step(model.train(), optimizer, batches, recipe, next(steps), fabric)


@torch.no_grad()
def give_statistics(network: Segmenter) -> None:
    """Running statistics from two images, and a classifier whose logits have a standard deviation of 3."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.stack([torch.from_numpy(picture((96, 128), seed)) for seed in range(4)]).permute(0, 3, 1, 2).float()
    images = (images - 120) / 58
    network.train().forward_train(images)
    logits, classifier = network.eval().logits(images), network.head.classifier
    scale = 3 / logits.std((0, 2, 3)).clamp(min=1e-6)
    classifier.weight.mul_(scale[:, None, None, None])
    assert classifier.bias is not None
    classifier.bias.mul_(scale).sub_(logits.mean((0, 2, 3)) * scale)


def picture(size: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth random colors at several scales, RGB uint8 (height, width, 3)."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        nn.functional.interpolate(
            torch.rand(1, 3, max(2, size[0] >> level), max(2, size[1] >> level), generator=generator), size,
            mode="bilinear",
        )
        / (7 - level)
        for level in range(2, 7)
    ]  # fmt: skip
    colors = torch.stack(parts).sum(0)[0]
    return (255 * (colors - colors.amin()) / (colors.amax() - colors.amin())).byte().permute(1, 2, 0).numpy().copy()


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """No TF32, whose ten bits of mantissa would hide mistakes."""
    settings = torch.backends.cudnn
    before = settings.allow_tf32
    settings.allow_tf32 = False
    try:
        yield
    finally:
        settings.allow_tf32 = before


def equal(ours: Tensor | np.ndarray, expected: Tensor | np.ndarray) -> float:
    """Share of equal labels."""
    return float((torch.as_tensor(ours).cpu() == torch.as_tensor(expected).cpu()).double().mean())


def relative(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).abs().max() / exact.abs().max().clamp(min=1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="device type")
    parser.add_argument("--out", type=Path, required=True, help="result file")
    args = parser.parse_args()
    record = Record(args.out, args.device)
    for name, check in Checks(args.device).all():
        record.add(name, check)
    record.finish()


if __name__ == "__main__":
    main()
