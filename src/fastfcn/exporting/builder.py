"""The files that a proof needs: the one that was asked for, and those that it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.export import ExportedProgram

from fastfcn import weights
from fastfcn.errors import UserError
from fastfcn.exporting import int8
from fastfcn.exporting.network import trace, trace_assuming
from fastfcn.prediction.runtimes import openvino as openvino_file
from fastfcn.prediction.runtimes.contents import Contents
from fastfcn.prediction.runtimes.formats import write
from fastfcn.utils.types import Size
from fastfcn.weights.file import Weights


@dataclass(frozen=True)
class Files:
    """`final` as it was asked for, `both` with logits in any case (they may be one), `other` to compare times with."""

    final: Path
    both: Path
    other: Path | None = None


class Builder:
    """Makes the files that a proof needs."""

    def __init__(
        self, held: Weights, form: str, logits: bool, calibrate: Path | None, largest: Size, say: Callable[[str], None]
    ):
        """`calibrate`: the folder of images that makes it int8; `largest`: for executorch alone; `say` is told what is
        being done."""
        self.held, self.form, self.say = held, form, say
        self.logits, self.calibrate, self.largest = logits, calibrate, largest
        self.model = weights.load_model(held)

    def build(self, folder: Path, name: str) -> Files:
        """Files called `name` in folders of their own."""
        final, both = folder / "final" / name, folder / "both" / name
        final.parent.mkdir()
        both.parent.mkdir()
        if self.calibrate:
            return self._build_int8(final, both, folder / name)
        self._write(both, logits=True)
        if self.logits:
            return Files(both, both)
        self._write(final, logits=False)
        return Files(final, both)

    def texts(self, logits: bool) -> dict[str, str]:
        """What the file says of itself."""
        precision = "int8" if self.calibrate else "f32"
        largest = self.largest if self.form == "executorch" else None
        held = self.held
        return Contents(held.recipe, held.description, logits, precision, largest, held.facts).texts()

    def _write(self, path: Path, logits: bool) -> None:
        self.say(f"Writing {path.name} {'with logits' if logits else 'with class maps alone'}")
        try:
            write(self.form, self._traced(logits), self.texts(logits), path)
        except (UserError, OSError):
            raise
        except Exception as error:  # what exporters raise for a layer that they cannot translate
            reason = next((line for line in str(error).splitlines() if "Error" in line), str(error).partition("\n")[0])
            raise UserError(
                f"{self.held.recipe.name} cannot be written as {self.form}: {reason}", "Use another format."
            ) from error

    def _traced(self, logits: bool) -> ExportedProgram:
        model, recipe = self.model, self.held.recipe
        match self.form:
            case "executorch":
                return trace_assuming(model, recipe, logits, self.largest)
            case "pt2":
                return trace_assuming(model, recipe, logits)
            case _:
                return trace(model, recipe, logits)

    def _build_int8(self, final: Path, both: Path, plain: Path) -> Files:
        """`plain` is the network in float32, whose time int8 is compared with."""
        assert self.calibrate
        self.say(f"Writing {plain.name} in float32")
        images = int8.calibration_images(self.calibrate)
        model = openvino_file.convert(trace(self.model, self.held.recipe, with_logits=True))
        openvino_file.save(model, self.texts(logits=True), plain)
        self.say(f"Calibrating on {len(images)} images")
        model = int8.quantized(model, images)
        openvino_file.save(model, self.texts(logits=True), both)
        if self.logits:
            return Files(both, both, plain)
        model.remove_result(model.get_results()[1])
        openvino_file.save(model, self.texts(logits=False), final)
        return Files(final, both, plain)
