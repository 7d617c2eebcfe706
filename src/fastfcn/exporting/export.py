"""`fastfcn export`: a network as a file of another runtime, which has its name only after it was proven."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fastfcn import weights
from fastfcn.data.images import read_image
from fastfcn.errors import OutputError, UserError
from fastfcn.evaluation.evaluate import load_setup, measure
from fastfcn.exporting import int8
from fastfcn.exporting.builder import Builder, Files
from fastfcn.exporting.network import TRACED, check_torch
from fastfcn.exporting.verification import SIZES, Proof, ProofError, Trial, expected, prove
from fastfcn.prediction.runtimes.formats import FORMATS, check_format, files_of, open_session, package_versions
from fastfcn.prediction.runtimes.predictor import ExportedPredictor
from fastfcn.utils.files import make_folder
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import counted
from fastfcn.utils.types import Size

Progress = Callable[[str], None]  # told what is being done


@dataclass(frozen=True)
class Settings:
    """What is exported, and how it is tried.

    `logits`: as a second output; `sizes` (height, width) of the proof; `data` and `split`: real images for mIoU before
    and after; `calibrate`: a folder of images, for int8; `max_loss`: points of mIoU that int8 may cost, unless `force`;
    `largest`: bound of an image's (height, width), for executorch alone; `photograph`: what the proof sees, else an
    image of `calibrate` or `data`, or a drawing.
    """

    logits: bool = False
    sizes: Sequence[Size] = SIZES
    data: Path | None = None
    split: str | None = None
    calibrate: Path | None = None
    max_loss: float = 1.0
    force: bool = False
    largest: Size = (512, 512)
    photograph: Path | None = None


@dataclass(frozen=True)
class Report:
    """`proof` of what was written, of a network of `recipe`, by runtime and compilers of `versions`; mIoU in percent of
    the network and of the file, None where it was not measured."""

    path: Path
    recipe: str
    proof: Proof
    precision: str
    versions: dict[str, str]
    miou_before: float | None = None
    miou_after: float | None = None

    @property
    def loss(self) -> float | None:
        """Points of mIoU that the file lost."""
        both = self.miou_before is not None and self.miou_after is not None
        return self.miou_before - self.miou_after if both else None  # type: ignore[operator]

    def as_json(self) -> dict:
        """For a file of results."""
        figures = {"miou_before": self.miou_before, "miou_after": self.miou_after, "miou_loss": self.loss}
        about = {"file": str(self.path), "recipe": self.recipe, "precision": self.precision, "with": self.versions}
        return about | self.proof.as_json() | figures


def export(
    path: str | Path, form: str, out: str | Path, settings: Settings | None = None, say: Progress = lambda text: None
) -> Report:
    """Write the weights file `path` in the format `form` (formats.FORMATS) to `out`.

    Raises ProofError, with what was seen, for a file that is not the network, and leaves none; UserError (its kinds)
    for what cannot be exported, MissingExtraError without the runtime.
    """
    settings, out = settings or Settings(), Path(out)
    check_torch()
    check_format(form, out, settings.calibrate is not None)
    _check_settings(form, settings)
    builder = Builder(weights.read(path), form, settings.logits, settings.calibrate, settings.largest, say)
    with _folder_for(out) as folder:
        files = builder.build(folder, out.name)
        report = _prove(builder, files, settings, Path(path), out)
        for source, target in zip(files_of(files.final), files_of(out), strict=True):
            source.replace(target)
    return report


def _check_settings(form: str, settings: Settings) -> None:
    if not settings.sizes:
        raise UserError("A proof needs sizes.", "Leave out --sizes.")
    for height, width in settings.sizes:
        if (height, width) == TRACED:
            raise UserError(f"{height}x{width} is the size that is traced; it proves nothing.", "Name another.")
        if form == "executorch" and (height > settings.largest[0] or width > settings.largest[1]):
            raise UserError(f"{height}x{width} is beyond --largest {settings.largest[0]}x{settings.largest[1]}.")
    if settings.calibrate and not (settings.data or settings.force):
        raise UserError(
            "What int8 costs in mIoU is known only on labelled images.", "Name them with --data DIR, or add --force."
        )


@contextmanager
def _folder_for(out: Path) -> Any:
    """A folder beside `out` for what is not proven yet; it goes in the end."""
    make_folder(out.parent)
    try:
        with TemporaryDirectory(prefix=f".{out.stem}.", dir=out.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(f"Cannot write {out}: {error.strerror or error}.", "Choose another place.") from error


def _prove(builder: Builder, files: Files, settings: Settings, path: Path, out: Path) -> Report:
    """Raises ProofError where the file is not good enough."""
    recipe = builder.held.recipe
    both = ExportedPredictor(files.both, "cpu", trusted=True)
    final = both.session if files.final == files.both else open_session(files.final, "cpu", trusted=True)
    title, other = FORMATS[builder.form].title, "network"
    run_other = partial(expected, builder.model, recipe)
    if files.other:
        title, other = f"{title}, int8", "float32"
        run_other = open_session(files.other).run
    trial = Trial(final, both.session, run_other)
    results = prove(builder.model, recipe, trial, settings.sizes, _photograph(settings, path))
    found = tuple(counted(results, len(settings.sizes), "Proving"))
    megabytes = sum(each.stat().st_size for each in files_of(files.final)) / 1e6
    proof = Proof(title, other, megabytes, found, not files.other)
    report = Report(out, builder.held.recipe.name, proof, both.contents.precision, package_versions(builder.form))
    failures = report.proof.failures()
    if failures:
        raise ProofError(
            f"{out} was not written: it is not the network.\n" + "\n".join(f"  {failure}" for failure in failures),
            "Use another format, and tell the authors of fastfcn which recipe it was.",
            report.proof,
        )
    if settings.data:
        report = _with_miou(report, path, settings, both)
    if files.other:
        _check_loss(report, settings)
    return report


def _photograph(settings: Settings, path: Path) -> np.ndarray | None:
    """An image of the user's to prove on, where there is one."""
    if settings.photograph:
        return read_image(settings.photograph)
    if settings.calibrate:
        return read_image(int8.calibration_images(settings.calibrate)[0])
    if settings.data:
        setup = load_setup(path, settings.data, Machine("cpu"), settings.split)
        return setup.dataset[0].image
    return None


def _with_miou(report: Report, path: Path, settings: Settings, exported: ExportedPredictor) -> Report:
    """Both on the same images in the same way; recipes with sliding windows on whole images."""
    assert settings.data
    every = exported.recipe.eval.every
    whole = f'eval={{kind="whole", every={every}, resize="none", scales=[1.0], flip=false}}'
    changes = [whole] if exported.recipe.eval.kind == "sliding" else []
    found = []
    for file in (path, exported.path):
        setup = load_setup(file, settings.data, Machine("cpu"), settings.split, changes, trusted=True)
        found.append(float(measure(setup.model, setup.recipe, setup.dataset, setup.fabric, progress=counted).miou))
    return replace(report, miou_before=found[0], miou_after=found[1])


def _check_loss(report: Report, settings: Settings) -> None:
    if settings.force or (report.loss is not None and report.loss <= settings.max_loss):
        return
    assert report.loss is not None  # _check_settings has seen to it
    raise ProofError(
        f"{report.path} was not written: int8 costs {report.loss:.2f} points of mIoU ({report.miou_before:.2f} before, "
        f"{report.miou_after:.2f} after), more than {settings.max_loss:g}.",
        "Calibrate on more images like yours, allow more with --max-loss, or add --force.",
        report.proof,
    )
