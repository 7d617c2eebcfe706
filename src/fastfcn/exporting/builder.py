"""Writing the files of an export: the one to deliver, and those needed to verify it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten

import numpy as np
from torch.export import ExportedProgram

from fastfcn import build, weights
from fastfcn.errors import UserError
from fastfcn.exporting import int8
from fastfcn.exporting.network import trace, trace_backed
from fastfcn.exporting.verification import Expected, expected_outputs, sample_image
from fastfcn.prediction.runtimes import openvino
from fastfcn.prediction.runtimes.base import Runtime, quiet_exporters
from fastfcn.prediction.runtimes.metadata import ExportMetadata
from fastfcn.prediction.runtimes.registry import RUNTIMES, open_session
from fastfcn.prediction.runtimes.self_test import SIZE, SelfTest
from fastfcn.recipes.inference import inference_settings
from fastfcn.utils.sizes import Size
from fastfcn.weights.file import Weights


@dataclass(frozen=True)
class BuiltFiles:
    """`final`: the file to deliver; `with_logits`: the same with logits as a second output (may be the same file);
    `float32`: the network before quantization, for int8."""

    final: Path
    with_logits: Path
    float32: Path | None = None


class Builder:
    """Writes the files of one export."""

    def __init__(
        self,
        source: Weights,
        runtime: Runtime,
        logits: bool,
        calibrate: Path | None,
        largest: Size,
        report_step: Callable[[str], None],
    ):
        """`calibrate`: folder of calibration images, for int8; `largest`: for formats with a largest image size;
        `report_step` is called with a line for each step."""
        self.source, self.runtime, self.report_step = source, runtime, report_step
        self.logits, self.calibrate, self.largest = logits, calibrate, largest
        self.model = weights.load_model(source)
        self.images = build.image_reader(source.recipe, source.description)

    def build(self, folder: Path, name: str) -> BuiltFiles:
        """Write files called `name` to subfolders of `folder`."""
        final, with_logits = folder / "final" / name, folder / "with_logits" / name
        final.parent.mkdir()
        with_logits.parent.mkdir()
        if self.calibrate:
            return self._build_int8(final, with_logits, folder / name)
        self._write(with_logits, logits=True)
        if self.logits:
            return BuiltFiles(with_logits, with_logits)
        self._write(final, logits=False)
        return BuiltFiles(final, with_logits)

    def metadata(self, logits: bool, self_test: SelfTest | None) -> dict[str, str]:
        """The metadata to store in a file."""
        precision = "int8" if self.calibrate else "f32"
        source = self.source
        metadata = ExportMetadata(
            source.recipe, source.description, logits, precision, self._bound, source.facts, self_test=self_test
        )
        return metadata.as_strings()

    @property
    def _bound(self) -> Size | None:
        """The largest size that the file supports; None: any."""
        return self.largest if self.runtime.tracing == "bounded" else None

    @cached_property
    def _test_image(self) -> np.ndarray:
        """Of the self-test: synthetic, because images of the user do not belong into a file that is passed on."""
        height, width = self._bound or SIZE
        return sample_image((min(height, SIZE[0]), min(width, SIZE[1])), recipe=self.source.recipe)

    @cached_property
    def _expected(self) -> Expected:
        """What the network outputs for the image of the self-test."""
        return expected_outputs(self.model, self.source.recipe, self._test_image[None])

    def _self_test(self) -> SelfTest:
        return SelfTest.from_logits(self._test_image, self._expected.logits[0], self._expected.tolerance)

    def _int8_self_test(self, path: Path) -> SelfTest:
        """The self-test of the quantized network with logits at `path`."""
        labels, logits = open_session(path).run(self._test_image[None])
        return SelfTest.of_quantized(self._test_image, labels[0], logits[0], self._expected.logits[0])

    def _write(self, path: Path, logits: bool) -> None:
        self.report_step(f"Writing {path.name} with {'labels and logits' if logits else 'labels only'}")
        try:
            with quiet_exporters():
                program = self._traced(self.runtime.tracing, logits)
                self.runtime.write(program, self.metadata(logits, self._self_test()), path)
        except (UserError, OSError):
            raise
        except Exception as error:  # exporters raise various exceptions for unsupported layers
            raise self._unsupported(error) from error

    def _unsupported(self, error: Exception) -> UserError:
        """Name the layer that cannot be exported, and the formats that can be tried."""
        recipe = self.source.recipe
        lines = str(error).splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "Error" in line), lines[0]).strip()
        if type(error).__name__ == "GuardOnDataDependentSymNode":
            reason = "how its layers depend on the size of the image cannot be traced by PyTorch"
        source = f"{recipe.backbone.name} ({recipe.name})"
        others = self._traceable_formats() if self.runtime.tracing == "unbacked" else []
        hint = f"Try --format {' or '.join(others)}." if others else "No other format supports it either."
        return UserError(
            f"{source} cannot be exported to {self.runtime.name}: {shorten(reason, 200)}.",
            f"{hint} `fastfcn predict`, `evaluate` and `serve` use the weights file itself.",
        )

    def _traceable_formats(self) -> list[str]:
        """Names of the formats that trace in another way than that of this export, if the network can be traced so."""
        try:
            with quiet_exporters():
                self._traced("backed", logits=True)
        except Exception:  # as in `_write`
            return []
        return [runtime.name for runtime in RUNTIMES.values() if runtime.tracing == "backed"]

    def _traced(self, tracing: str, logits: bool) -> ExportedProgram:
        match tracing:
            case "unbacked":
                return trace(self.model, self.source.recipe, logits)
            case "backed":
                return trace_backed(self.model, self.source.recipe, logits)
            case "bounded":
                return trace_backed(self.model, self.source.recipe, logits, self.largest)
        raise ValueError(tracing)

    def _build_int8(self, final: Path, with_logits: Path, float32: Path) -> BuiltFiles:
        assert self.calibrate
        self.report_step(f"Writing {float32.name} in float32")
        images = int8.calibration_images(self.calibrate)
        with quiet_exporters():
            program = trace(self.model, self.source.recipe, with_logits=True)
        model = openvino.convert(program)
        openvino.save(model, self.metadata(True, self._self_test()), float32)
        self.report_step(f"Calibrating on {len(images)} images")
        model = int8.quantize(model, images, self.images, inference_settings(self.source.recipe))
        openvino.save(model, self.metadata(True, None), with_logits)
        self_test = self._int8_self_test(with_logits)
        openvino.save(model, self.metadata(True, self_test), with_logits)
        if self.logits:
            return BuiltFiles(with_logits, with_logits, float32)
        model.remove_result(model.get_results()[1])
        openvino.save(model, self.metadata(False, self_test), final)
        return BuiltFiles(final, with_logits, float32)
