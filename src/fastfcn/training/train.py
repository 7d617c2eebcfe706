"""The training loop: from a recipe and a dataset to a run folder with weights."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from math import isnan
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from fastfcn import build, weights
from fastfcn.data.dataset import Dataset, read_batches, worker_context
from fastfcn.data.sampler import BatchSampler
from fastfcn.data.transforms import unpack
from fastfcn.evaluation.evaluate import measure
from fastfcn.evaluation.scores import as_json, summary
from fastfcn.fast.cuda_graphs import fastest_convolutions
from fastfcn.losses import segmentation_loss
from fastfcn.recipes.inference import inference_settings
from fastfcn.recipes.recipe import Recipe
from fastfcn.training import run_log
from fastfcn.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from fastfcn.training.ema import MovingAverage
from fastfcn.training.fingerprint import fingerprint
from fastfcn.training.freezing import Freezing
from fastfcn.training.label_check import check_labels
from fastfcn.training.log import StopRequest, TrainLog
from fastfcn.training.lost_processes import lost_processes
from fastfcn.training.prepare import fused_kernels, match_gradient_strides, prepare, synchronize_batch_norms
from fastfcn.training.run import Run, TrainingResult
from fastfcn.utils.console import error_console as console
from fastfcn.utils.machine import Machine, process_memory
from fastfcn.utils.progress import warn
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.weights.pretrained import other_normalization, pretrained_origin
from fastfcn.weights.start import load_initial_weights


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    machine: Machine,
    resume: bool = False,
    logs: Sequence[str] = (),
    accept_changed_data: bool = False,
    strict: bool = False,
    trust_labels: bool = False,
) -> TrainingResult:
    """Train `recipe` on the dataset in `data`, a folder or a packed dataset; write the run to the folder `out`.

    `resume`: continue the run in `out`, or start it if there is none; it ends with the same losses and weights, bit for
    bit, as a run that was never stopped; a dataset that has changed since is refused unless `accept_changed_data`.
    `logs`: loggers to use besides the run folder, a selection of `loggers.PACKAGES`. `strict`: refuse `load_from` with
    other classes. `trust_labels`: do not check the masks first.
    Raises UserError (or a subclass) before the first step for data, weights and folders that cannot be used, for a
    folder in use by another training, and when a process of the run ends; DivergedError when the loss is no longer
    finite.
    """
    build.check_backbone(recipe)
    description = build.description(recipe, data)
    train_set = build.dataset(recipe, description, data, recipe.data.train_split, train=True)
    recipe = build.with_steps(recipe, len(train_set))
    val_set = build.dataset(recipe, description, data, recipe.data.val_split, train=False)
    run, splits, first = Run(out), {"train": train_set, "val": val_set}, machine.first_process
    if first:
        machine.check_batch(recipe.optim.batch)
    with StopRequest(first) as stop, run.lock(resume and machine.job is not None) if first else nullcontext():
        if first:
            _open_run(run, recipe, splits, resume, accept_changed_data)
        fabric = machine.launch()
        with lost_processes(fabric):
            if trust_labels or check_labels(run, splits, fabric, machine.dataloader_workers, stop):
                result = _train(recipe, data, train_set, val_set, run, fabric, machine, resume, logs, strict, stop)
            else:
                result = TrainingResult(run.folder, 0, recipe.steps, None, 0, stopped_by=stop.received)
            if not result.finished:
                fabric.barrier()  # a launcher may kill the others when one process ends, even while it saves
            return result


def _open_run(run: Run, recipe: Recipe, splits: dict[str, Dataset], resume: bool, accept_changed_data: bool) -> None:
    """Start or resume the run, after a comparison with what it was started with."""
    dataset = fingerprint(splits)
    if not (resume and run.recipe.exists()):
        run.start(recipe, dataset)
        if resume:
            console.print(f"There is no run in {run.folder} yet: this is its start.", soft_wrap=True)
    elif warning := run.resume(recipe, dataset, accept_changed_data):
        warn(warning)


def _train(
    recipe: Recipe, data: str | Path, train_set: Dataset, val_set: Dataset, run: Run, fabric: Fabric, machine: Machine,
    resume: bool, logs: Sequence[str], strict: bool, stop: StopRequest,
) -> TrainingResult:  # fmt: skip
    """The loop over the steps, in every process."""
    classes = train_set.description.class_names
    model, optimizer, average, freezing, state = _setup(recipe, classes, run, fabric, machine, resume, strict)
    if fabric.is_global_zero:
        for warning in filter(None, (run_log.cut(run.log, state.step), _missing_best(run, state))):
            warn(warning)
        run.write_environment(fabric.device, fabric.world_size, data)
    batches = _batches(recipe, train_set, state.step, fabric, machine)
    steps = recipe.steps
    log = TrainLog(run, fabric, state.step, steps, recipe.optim.batch, logs)
    with log:
        while state.step < steps and not _stops_early(recipe, state):
            losses = train_step(model, optimizer, batches, recipe, state.step, fabric, machine.accumulate, freezing)
            if average:
                average.update_parameters(model.module)  # type: ignore[arg-type]
            state.step += 1
            flushed = log.add(state.step, build.learning_rate(recipe, state.step - 1), losses)
            validate = state.step % recipe.eval.every == 0 or state.step == steps
            if validate:
                log.flush()
                _validate(average or model, recipe, val_set, run, fabric, machine, state, log)
            stopping = (flushed or validate) and stop.requested(fabric)
            if fabric.is_global_zero and (validate or stopping or (flushed and log.checkpoint_due())):
                save_checkpoint(run.checkpoint, model, optimizer, average, state)
            if stopping:
                break
    best = state.best if state.best_step else None
    early = _stops_early(recipe, state)
    result = TrainingResult(run.folder, state.step, steps, best, state.best_step, early, stop.received)
    if fabric.is_global_zero and result.finished:
        run.note(peak_memory_mib=process_memory(fabric.device)[0])
    return result


def _missing_best(run: Run, state: TrainState) -> str:
    """A warning if the best weights of a resumed run are gone, or ""."""
    if not state.best_step or run.best.exists():
        return ""
    return (
        f"{run.best} is missing, the best weights so far (mIoU {state.best:.2f} after {state.best_step} steps). It is "
        f"written again if a later validation is better; {run.last.name} has the last weights."
    )


def _stops_early(recipe: Recipe, state: TrainState) -> bool:
    """Whether the last validations, as many as the recipe says, were no better than the best before them."""
    if recipe.early_stop.kind == "none":
        return False
    return state.step - state.best_step >= recipe.early_stop.validations * recipe.eval.every


@fastest_convolutions()
def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[tuple[Tensor, Tensor]], recipe: Recipe,
    step: int, fabric: Fabric, parts: int = 1, freezing: Freezing | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """One optimizer step on the next `parts` items of `batches`; returns the losses of this process by name.

    `step` counts from 0. The RNG state of the network (dropout) depends on (seed, step, process) only.
    """
    for group in optimizer.param_groups:
        group["lr"] = build.learning_rate(recipe, step, group["factor"]) * group["lr_scale"]
    if freezing:
        freezing.apply(step)
    terms = build.loss_terms(recipe)
    items = [next(batches) for _ in range(parts)]
    # Seed after reading the batches: a dataloader draws from the same RNG when it starts.
    torch.manual_seed(_seed(recipe.seed, step, fabric.global_rank))
    pixels = _loss_pixels([labels for _, labels in items], terms.mean_over, fabric)
    images = sum(len(labels) for _, labels in items)
    total: dict[str, Tensor] = {}
    for index, (batch, labels) in enumerate(items):
        with fabric.no_backward_sync(model, enabled=index + 1 < parts):  # type: ignore[arg-type]
            batch = _network_input(batch, recipe)
            # On one device, Fabric does not apply its precision to marked forward methods.
            with fabric.autocast():
                logits, extras = model.forward_train(batch)  # type: ignore[operator]
            losses = segmentation_loss(logits, extras, labels, terms, pixels, images)
            fabric.backward(losses["loss"])
        total = {name: total.get(name, 0.0) + value.detach() for name, value in losses.items()}
    if freezing:
        freezing.drop_gradients(step)
    if recipe.optim.clip_norm:
        norm = fabric.clip_gradients(model, optimizer, max_norm=recipe.optim.clip_norm, error_if_nonfinite=False)
        total["gradient_norm"] = torch.as_tensor(norm).detach()
    optimizer.step()
    optimizer.zero_grad()
    return total


def _network_input(batch: Tensor, recipe: Recipe) -> Tensor:
    """Normalized images, channels last; packed ones are normalized on their device."""
    if batch.dtype == torch.uint8:
        return unpack(batch, recipe.data.mean, recipe.data.std)
    return batch.contiguous(memory_format=torch.channels_last)


def _loss_pixels(labels: list[Tensor], mean_over: str, fabric: Fabric) -> Tensor:
    """Number of pixels that the summed losses of this process are divided by: all pixels, or those with a label.

    DDP averages gradients over the processes, so each divides by the mean of their counts. The counts stay on the
    device, so that a GPU does not have to be synchronized.
    """
    if mean_over == "all":
        pixels = max(1, sum(label.numel() for label in labels))
        count = torch.full((), pixels, dtype=torch.float32, device=fabric.device)
    else:
        counts = [(label != IGNORE_INDEX).sum() for label in labels]
        count = torch.stack(counts).sum().clamp(min=1).to(fabric.device, torch.float32)
    return torch.as_tensor(fabric.all_reduce(count, reduce_op="mean"))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _setup(
    recipe: Recipe, classes: Sequence[str], run: Run, fabric: Fabric, machine: Machine, resume: bool, strict: bool
) -> tuple[nn.Module, torch.optim.Optimizer, AveragedModel | None, Freezing, TrainState]:
    """Network, optimizer, averaged weights and state: new, or from the checkpoint of the run if `resume`."""
    torch.manual_seed(recipe.seed)
    network = build.network(recipe, len(classes), training=True)
    resume = fabric.broadcast(resume and run.checkpoint.exists())
    if not resume:
        remarks: list[str] = []
        with fabric.rank_zero_first(local=True):  # one process per machine downloads, the others read the cached file
            match = load_initial_weights(recipe, network, classes, strict, remarks)
        if fabric.is_global_zero and match and str(match):
            console.print(f"{recipe.load_from}: {match}", soft_wrap=True)
        elif fabric.is_global_zero and match is None:
            origin = pretrained_origin(recipe.backbone.name, recipe.backbone.pretrained)
            console.print(f"Initial weights: {origin}", soft_wrap=True)
            if warning := other_normalization(recipe):
                warn(warning)
        for remark in remarks if fabric.is_global_zero else ():
            console.print(remark, soft_wrap=True)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        synchronize_batch_norms(network)
    prepare(network, machine, fabric.device)
    if fabric.world_size > 1:
        match_gradient_strides(network)
    freezing = Freezing(recipe, network, fabric.world_size)
    freezing.apply(step=0)  # before DistributedDataParallel looks for the weights that train
    model, optimizer = fabric.setup(network, build.optimizer(recipe, network, fused_kernels(machine, fabric.device)))
    model.mark_forward_method("forward_train")
    average = MovingAverage(network, recipe.optim.ema) if recipe.optim.ema else None
    state = TrainState()
    if resume:
        state = load_checkpoint(run.checkpoint, network, optimizer, average, recipe.steps)  # type: ignore[arg-type]
    return model.train(), optimizer, average, freezing, state


def _batches(
    recipe: Recipe, train_set: Dataset, start: int, fabric: Fabric, machine: Machine
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's (images, labels) from step `start` to the last, `machine.accumulate` of them per step.

    For a GPU the images are packed. On a CPU the dataloader workers normalize them.
    """
    if fabric.device.type == "cuda":
        train_set = train_set.packed()
    sampler = BatchSampler(
        len(train_set), recipe.optim.batch, recipe.seed, start, recipe.steps, fabric.global_rank, fabric.world_size,
        machine.accumulate,
    )  # fmt: skip
    loader = DataLoader(
        train_set, batch_sampler=sampler, num_workers=machine.dataloader_workers,
        pin_memory=fabric.device.type == "cuda",
        multiprocessing_context=worker_context(train_set, machine.dataloader_workers),
    )  # type: ignore[arg-type] # fmt: skip
    return read_batches(fabric.setup_dataloaders(loader, use_distributed_sampler=False))


def _validate(
    model: nn.Module, recipe: Recipe, val_set: Dataset, run: Run, fabric: Fabric, machine: Machine, state: TrainState,
    log: TrainLog,
) -> None:  # fmt: skip
    """Evaluate the network inside `model`, log the scores, and save the last weights and the best."""
    network = model.module
    if fabric.world_size > 1:
        # Without synchronized batch norm the running statistics of the processes differ; those of the first are used.
        for buffer in network.buffers():  # type: ignore[union-attr]
            torch.distributed.broadcast(buffer, 0)
    scores = measure(network, inference_settings(recipe), val_set, fabric, workers=machine.dataloader_workers)  # type: ignore[arg-type]
    if not scores.miou <= state.best:
        state.best, state.best_step = scores.miou, state.step
    if not fabric.is_global_zero:
        return
    description = val_set.description
    facts = {"step": state.step, "miou": None if isnan(scores.miou) else scores.miou, "split": recipe.data.val_split}
    weights.save(run.last, network, recipe, description, facts)  # type: ignore[arg-type]
    if state.best_step == state.step:
        weights.save(run.best, network, recipe, description, facts)  # type: ignore[arg-type]
    log.validation(state.step, as_json(scores, description), f"step {state.step}: {summary(scores)}")
