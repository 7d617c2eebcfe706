"""Writing the files of an export: the one to deliver, and those needed to verify it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.export import ExportedProgram

from fastfcn import weights
from fastfcn.errors import UserError
from fastfcn.exporting import int8
from fastfcn.exporting.network import trace, trace_backed
from fastfcn.prediction.runtimes import openvino
from fastfcn.prediction.runtimes.base import Runtime
from fastfcn.prediction.runtimes.metadata import ExportMetadata
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

    def metadata(self, logits: bool) -> dict[str, str]:
        """The metadata to store in a file."""
        precision = "int8" if self.calibrate else "f32"
        largest = self.largest if self.runtime.tracing == "bounded" else None
        source = self.source
        return ExportMetadata(source.recipe, source.description, logits, precision, largest, source.facts).as_strings()

    def _write(self, path: Path, logits: bool) -> None:
        self.report_step(f"Writing {path.name} with {'labels and logits' if logits else 'labels only'}")
        try:
            self.runtime.write(self._traced(logits), self.metadata(logits), path)
        except (UserError, OSError):
            raise
        except Exception as error:  # exporters raise various exceptions for unsupported layers
            reason = next((line for line in str(error).splitlines() if "Error" in line), str(error).partition("\n")[0])
            raise UserError(
                f"{self.source.recipe.name} cannot be exported to {self.runtime.name}: {reason}", "Use another format."
            ) from error

    def _traced(self, logits: bool) -> ExportedProgram:
        match self.runtime.tracing:
            case "unbacked":
                return trace(self.model, self.source.recipe, logits)
            case "backed":
                return trace_backed(self.model, self.source.recipe, logits)
            case "bounded":
                return trace_backed(self.model, self.source.recipe, logits, self.largest)

    def _build_int8(self, final: Path, with_logits: Path, float32: Path) -> BuiltFiles:
        assert self.calibrate
        self.report_step(f"Writing {float32.name} in float32")
        images = int8.calibration_images(self.calibrate)
        model = openvino.convert(trace(self.model, self.source.recipe, with_logits=True))
        openvino.save(model, self.metadata(logits=True), float32)
        self.report_step(f"Calibrating on {len(images)} images")
        model = int8.quantize(model, images)
        openvino.save(model, self.metadata(logits=True), with_logits)
        if self.logits:
            return BuiltFiles(with_logits, with_logits, float32)
        model.remove_result(model.get_results()[1])
        openvino.save(model, self.metadata(logits=False), final)
        return BuiltFiles(final, with_logits, float32)
