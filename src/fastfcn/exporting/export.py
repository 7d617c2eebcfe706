"""`fastfcn export`: write a network for another runtime, verify the file, and deliver it only if it is correct."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fastfcn.errors import OutputError, UserError
from fastfcn.evaluation.evaluate import load_setup, measure
from fastfcn.exporting import int8, triton
from fastfcn.exporting.builder import Builder, BuiltFiles
from fastfcn.exporting.network import TRACED, check_torch
from fastfcn.exporting.verification import (
    SIZES,
    Candidate,
    Verification,
    VerificationError,
    network_logits,
    verify,
)
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.load import open_weights
from fastfcn.prediction.runtimes.base import Runtime, check_packages
from fastfcn.prediction.runtimes.registry import RUNTIMES, find_runtime, open_session, read_metadata, runtime_of
from fastfcn.recipes.inference import InferenceSettings, inference_settings
from fastfcn.utils.files import make_folder
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import with_progress
from fastfcn.utils.sizes import Size
from fastfcn.weights.locate import model_name

ReportStep = Callable[[str], None]  # called with a line for each step


@dataclass(frozen=True)
class ExportSettings:
    """What to export and how to verify it.

    Attributes:
        logits: add logits as a second output.
        sizes: (height, width) of the images used for verification.
        data: folder of a dataset, to measure mIoU before and after export.
        split: split of `data`; None: the recipe's validation split.
        calibrate: folder of calibration images; makes the file int8.
        max_loss: mIoU, in points, that int8 may lose.
        force: write an int8 file whatever it loses, or without measuring it.
        largest: largest (height, width) of an image, for formats that plan memory ahead (executorch).
        image: image file used for verification; None: an image of `calibrate` or `data`, or a synthetic one.
    """

    logits: bool = False
    sizes: Sequence[Size] = SIZES
    data: Path | None = None
    split: str | None = None
    calibrate: Path | None = None
    max_loss: float = 1.0
    force: bool = False
    largest: Size = (512, 512)
    image: Path | None = None


@dataclass(frozen=True)
class ExportResult:
    """A written file.

    Attributes:
        path: the file; for triton the folder of the model.
        recipe: name of the recipe of the network.
        verification: its comparison with PyTorch.
        precision: "f32" or "int8".
        versions: versions of the runtime and the compilers, by package.
        miou_before, miou_after: mIoU in percent of the network and of the file; None if not measured.
    """

    path: Path
    recipe: str
    verification: Verification
    precision: str
    versions: dict[str, str]
    miou_before: float | None = None
    miou_after: float | None = None

    @property
    def loss(self) -> float | None:
        """mIoU lost by export, in points; None if not measured."""
        if self.miou_before is None or self.miou_after is None:
            return None
        return self.miou_before - self.miou_after

    def as_json(self) -> dict:
        """All values as JSON values."""
        scores = {"miou_before": self.miou_before, "miou_after": self.miou_after, "miou_loss": self.loss}
        source = {"file": str(self.path), "recipe": self.recipe, "precision": self.precision, "with": self.versions}
        return source | self.verification.as_json() | scores


def export(
    path: str | Path, format: str, out: str | Path, settings: ExportSettings | None = None,
    report_step: ReportStep = lambda text: None,
) -> ExportResult:  # fmt: skip
    """Export a network to another runtime.

    Args:
        path: a weights file, or `hf://USER/NAME`.
        format: name of an export format: onnx, openvino, pt2, executorch or triton.
        out: file to write; its suffix must be that of the format. For triton the folder of the model repository.
        settings: see `ExportSettings`.
        report_step: called with a line for each step.

    Raises VerificationError, and writes nothing, if outputs differ from PyTorch's; UserError (and its subclasses) if
    the network or the settings cannot be exported; MissingExtraError without the format's packages.
    """
    settings, out = settings or ExportSettings(), Path(out)
    if format == triton.FORMAT:
        return _export_to_repository(path, out, settings, report_step)
    runtime = find_runtime(format)
    check_torch()
    _check_settings(runtime, out, settings)
    source = open_weights(path, "export")
    builder = Builder(source, runtime, settings.logits, settings.calibrate, settings.largest, report_step)
    with _temporary_folder(out) as folder:
        files = builder.build(folder, out.name)
        result = _verify(builder, files, settings, path, out)
        for written, target in zip(runtime.files(files.final), runtime.files(out), strict=True):
            written.replace(target)
    report_step(_inference_note(inference_settings(source.recipe), settings.logits))
    return result


def _export_to_repository(
    path: str | Path, repository: Path, settings: ExportSettings, report_step: ReportStep
) -> ExportResult:
    """Export to the folder of the model in a model repository of Triton; its name is that of the weights."""
    if runtime := runtime_of(repository):
        raise UserError(
            f"{repository} must be a folder, the model repository.", f"For a single file use --format {runtime.name}."
        )
    target = repository / triton.triton_name(model_name(path))
    with _temporary_folder(target) as folder:
        model = folder / target.name
        result = export(path, "onnx", model / triton.MODEL, settings, report_step)
        names = triton.write_model(model, read_metadata(model / triton.MODEL))
        make_folder((target / triton.MODEL).parent)
        for name in (triton.MODEL, *names):
            (model / name).replace(target / name)
    return replace(result, path=target)


def _inference_note(inference: InferenceSettings, logits: bool) -> str:
    """At which size an exported file runs, compared with the evaluation of its recipe."""
    note = "The file runs at the size of the images that it is given"
    if inference.is_plain and inference.resize is None:
        return f"{note}, as the recipe is evaluated."
    note = f"{note}. The recipe is evaluated otherwise: {inference.description}. "
    if logits:
        return f"{note}`fastfcn predict`, `evaluate` and `serve` do the same with this file; other programs have to."
    return f"{note}To do the same with this file, export it with --logits, or use it with --size image."


def _check_settings(runtime: Runtime, out: Path, settings: ExportSettings) -> None:
    if settings.calibrate and not runtime.int8:
        names = " or ".join(entry.name for entry in RUNTIMES.values() if entry.int8)
        raise UserError(f"{runtime.title} does not support int8.", f"Use --format {names}.")
    if out.suffix != runtime.suffix:
        raise UserError(f"{out} must end in {runtime.suffix}, the suffix of {runtime.title} files.")
    runtime.check_writing()
    if settings.calibrate:
        check_packages(runtime, int8.PACKAGES, "Writing int8")
    _check_sizes(runtime, settings)
    if settings.calibrate and not (settings.data or settings.force):
        raise UserError(
            "The mIoU lost by int8 can only be measured on labeled images.", "Add --data DIR, or --force to skip it."
        )


def _check_sizes(runtime: Runtime, settings: ExportSettings) -> None:
    if not settings.sizes:
        raise UserError("Verification needs at least one size.", "Leave out --sizes to use the default ones.")
    for height, width in settings.sizes:
        if (height, width) == TRACED:
            raise UserError(
                f"{height}x{width} cannot be verified: it is the size that is traced.", "Choose another size."
            )
        if runtime.tracing == "bounded" and (height > settings.largest[0] or width > settings.largest[1]):
            raise UserError(
                f"The size {height}x{width} exceeds --largest {settings.largest[0]}x{settings.largest[1]}.",
                "Choose a smaller size, or a larger --largest.",
            )


@contextmanager
def _temporary_folder(out: Path) -> Iterator[Path]:
    """A folder next to `out` for files that are not verified yet; it is removed at the end."""
    make_folder(out.parent)
    try:
        with TemporaryDirectory(prefix=f".{out.stem}.", dir=out.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(f"Cannot write {out}: {error.strerror or error}.", "Choose another --out.") from error


def _verify(builder: Builder, files: BuiltFiles, settings: ExportSettings, path: str | Path, out: Path) -> ExportResult:
    """Raises VerificationError if the file is not good enough."""
    # Without the self-test: the verification says more about a file that is wrong.
    with_logits = ExportedPredictor(files.with_logits, "cpu", trusted=True, self_test=False)
    verification = _compare_outputs(builder, files, with_logits, settings, path)
    recipe, runtime = builder.source.recipe, builder.runtime
    result = ExportResult(out, recipe.name, verification, with_logits.metadata.precision, runtime.versions())
    failures = verification.failures()
    if failures:
        raise VerificationError(
            "Export failed: outputs differ from PyTorch.\n" + "\n".join(f"  {failure}" for failure in failures),
            f"{out} was not written. Use another format, and please report the recipe ({recipe.name}) as a bug.",
            verification,
        )
    if settings.data:
        result = _with_miou(result, path, settings, with_logits)
    if files.float32:
        _check_loss(result, settings)
    return result


def _compare_outputs(
    builder: Builder, files: BuiltFiles, with_logits: ExportedPredictor, settings: ExportSettings, path: str | Path
) -> Verification:
    runtime, recipe = builder.runtime, builder.source.recipe
    is_same = files.final == files.with_logits
    final = with_logits.session if is_same else open_session(files.final, "cpu", trusted=True)
    if files.float32:
        title, other, baseline = f"{runtime.title} int8", "float32", open_session(files.float32).run
    else:
        title, other, baseline = runtime.title, "PyTorch", partial(network_logits, builder.model, recipe)
    candidate = Candidate(final, with_logits.session, baseline)
    results = verify(builder.model, recipe, candidate, settings.sizes, _verification_image(builder, settings, path))
    results = tuple(with_progress(results, len(settings.sizes), "Verifying"))
    megabytes = sum(file.stat().st_size for file in runtime.files(files.final)) / 1e6
    return Verification(title, other, megabytes, results, exact=not files.float32)


def _verification_image(builder: Builder, settings: ExportSettings, path: str | Path) -> np.ndarray | None:
    """One of the user's images, if there are any."""
    if settings.image:
        return builder.images.read(settings.image)
    if settings.calibrate:
        return builder.images.read(int8.calibration_images(settings.calibrate)[0])
    if settings.data:
        setup = load_setup(path, settings.data, Machine("cpu"), settings.split)
        return setup.dataset[0].image
    return None


def _with_miou(
    result: ExportResult, path: str | Path, settings: ExportSettings, exported: ExportedPredictor
) -> ExportResult:
    """Measure mIoU of network and file, both with the recipe's inference settings."""
    assert settings.data
    mious = []
    for file in (path, exported.path):
        setup = load_setup(file, settings.data, Machine("cpu"), settings.split, trusted=True)
        mious.append(
            float(measure(setup.model, setup.inference, setup.dataset, setup.fabric, progress=with_progress).miou)
        )
    return replace(result, miou_before=mious[0], miou_after=mious[1])


def _check_loss(result: ExportResult, settings: ExportSettings) -> None:
    if settings.force or (result.loss is not None and result.loss <= settings.max_loss):
        return
    assert result.loss is not None  # _check_settings requires `data` or `force`
    raise VerificationError(
        f"Export failed: int8 loses {result.loss:.2f} points of mIoU ({result.miou_before:.2f} before, "
        f"{result.miou_after:.2f} after), more than {settings.max_loss:g}.",
        f"{result.path} was not written. Calibrate on more images like yours, raise --max-loss, or add --force.",
        result.verification,
    )
