"""The files that a proof needs: the one that was asked for, and those that it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.export import ExportedProgram

from fastfcn import weights
from fastfcn.errors import UserError
from fastfcn.exports import int8, openvino_file
from fastfcn.exports.contents import Contents
from fastfcn.exports.formats import write
from fastfcn.exports.network import trace, trace_assuming
from fastfcn.weights import Weights

Size = tuple[int, int]


@dataclass(frozen=True)
class Files:
    """`final` as it was asked for, `both` with scores in any case (they may be one), `other` to compare times with."""

    final: Path
    both: Path
    other: Path | None = None


class Builder:
    """Makes the files that a proof needs."""

    def __init__(
        self, held: Weights, form: str, scores: bool, calibrate: Path | None, largest: Size, say: Callable[[str], None]
    ):
        """`calibrate`: the folder of images that makes it int8; `largest`: for executorch alone; `say` is told what is
        being done."""
        self.held, self.form, self.say = held, form, say
        self.scores, self.calibrate, self.largest = scores, calibrate, largest
        self.model = weights.load_model(held)

    def build(self, folder: Path, name: str) -> Files:
        """Files called `name` in folders of their own."""
        final, both = folder / "final" / name, folder / "both" / name
        final.parent.mkdir()
        both.parent.mkdir()
        if self.calibrate:
            return self._build_int8(final, both, folder / name)
        self._write(both, scores=True)
        if self.scores:
            return Files(both, both)
        self._write(final, scores=False)
        return Files(final, both)

    def texts(self, scores: bool) -> dict[str, str]:
        """What the file says of itself."""
        precision = "int8" if self.calibrate else "f32"
        largest = self.largest if self.form == "executorch" else None
        held = self.held
        return Contents(held.recipe, held.description, scores, precision, largest, held.facts).texts()

    def _write(self, path: Path, scores: bool) -> None:
        self.say(f"Writing {path.name} {'with scores' if scores else 'with class maps alone'}")
        try:
            write(self.form, self._traced(scores), self.texts(scores), path)
        except (UserError, OSError):
            raise
        except Exception as error:  # what exporters raise for a layer that they cannot translate
            reason = next((line for line in str(error).splitlines() if "Error" in line), str(error).partition("\n")[0])
            raise UserError(
                f"{self.held.recipe.name} cannot be written as {self.form}: {reason}", "Use another format."
            ) from error

    def _traced(self, scores: bool) -> ExportedProgram:
        model, recipe = self.model, self.held.recipe
        match self.form:
            case "executorch":
                return trace_assuming(model, recipe, scores, self.largest)
            case "pt2":
                return trace_assuming(model, recipe, scores)
            case _:
                return trace(model, recipe, scores)

    def _build_int8(self, final: Path, both: Path, plain: Path) -> Files:
        """`plain` is the network in float32, whose time int8 is compared with."""
        assert self.calibrate
        self.say(f"Writing {plain.name} in float32")
        images = int8.calibration_images(self.calibrate)
        model = openvino_file.convert(trace(self.model, self.held.recipe, with_scores=True))
        openvino_file.save(model, self.texts(scores=True), plain)
        self.say(f"Calibrating on {len(images)} images")
        model = int8.quantized(model, images)
        openvino_file.save(model, self.texts(scores=True), both)
        if self.scores:
            return Files(both, both, plain)
        model.remove_result(model.get_results()[1])
        openvino_file.save(model, self.texts(scores=False), final)
        return Files(final, both, plain)
