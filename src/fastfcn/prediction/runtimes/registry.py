"""The registry of export formats: lookup by name and by suffix, and opening of exported files."""

import pkgutil
from importlib import import_module
from pathlib import Path

from fastfcn.errors import UserError, WeightsError
from fastfcn.prediction import runtimes
from fastfcn.prediction.runtimes.base import Runtime, Session
from fastfcn.prediction.runtimes.metadata import ExportMetadata, parse_metadata
from fastfcn.utils.spelling import did_you_mean


def _discover() -> dict[str, Runtime]:
    """The `RUNTIME` entry of every module in this folder that defines one, by name."""
    names = [
        module.name for module in pkgutil.iter_modules(runtimes.__path__) if f"{_PACKAGE}.{module.name}" != __name__
    ]
    modules = [import_module(f"{_PACKAGE}.{name}") for name in names]
    entries = [module.RUNTIME for module in modules if hasattr(module, "RUNTIME")]
    return {entry.name: entry for entry in entries}


_PACKAGE = runtimes.__name__
RUNTIMES: dict[str, Runtime] = _discover()


def find_runtime(name: str) -> Runtime:
    """The export format of that name. Raises UserError if there is none."""
    if name not in RUNTIMES:
        raise UserError(
            f"Unknown export format {name!r}{did_you_mean(name, list(RUNTIMES))}",
            f"Choose one of {', '.join(RUNTIMES)}.",
        )
    return RUNTIMES[name]


def runtime_of(path: str | Path) -> Runtime | None:
    """The export format that a file's suffix stands for, or None."""
    suffix = Path(path).suffix.lower()
    return next((runtime for runtime in RUNTIMES.values() if runtime.suffix == suffix), None)


def read_metadata(path: Path) -> ExportMetadata:
    """The metadata of an exported file; no code in the file is run. Raises WeightsError if it is another file.

    Formats whose files cannot be read without their runtime raise MissingExtraError if it is not installed.
    """
    runtime = _existing(path)
    if runtime.read_metadata:
        return parse_metadata(runtime.read_metadata(path), path)
    runtime.check_running()
    return parse_metadata(runtime.open(path, "cpu").metadata, path)


def refuse_companion(path: str | Path) -> None:
    """Raise WeightsError for the second file of an exported network, such as model.bin next to model.xml."""
    for runtime in RUNTIMES.values():
        main = Path(path).with_suffix(runtime.suffix)
        if Path(path).suffix in runtime.companions and main.is_file():
            raise WeightsError(f"{path} belongs to the exported file {main}.", f"Give {main}.")


def open_session(path: Path, device: str = "auto", trusted: bool = False) -> Session:
    """Load an exported file into the runtime that its suffix names.

    `device`: "auto" (the CPU), "cpu", or a device of the runtime. `trusted`: allow files that run native code when
    they are loaded (.pt2). Raises WeightsError for an invalid file, MissingExtraError without the runtime, and
    UserError for an unsupported device or a file that is not trusted.
    """
    runtime = _existing(path)
    runtime.check_running()
    if device == "auto":
        device = "cpu"
    if device.partition(":")[0] not in runtime.devices:
        choices = " or ".join(("auto", *runtime.devices))
        raise UserError(f"{runtime.title} cannot run {path} on {device}.", f"Use the device {choices}.")
    if runtime.executes_code and not trusted:
        raise UserError(
            f"{path} contains native code that runs when it is loaded.",
            "If you trust its source, use --trusted, or fastfcn.load(path, trusted=True).",
        )
    return runtime.open(path, device)


def _existing(path: Path) -> Runtime:
    """The format of an existing file. Raises WeightsError."""
    runtime = runtime_of(path)
    if runtime is None:
        suffixes = ", ".join(entry.suffix for entry in RUNTIMES.values())
        raise WeightsError(f"{path} is not an exported file.", f"Exported files end in {suffixes}.")
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.", "Give a file written by `fastfcn export`.")
    for part in runtime.files(path):
        if not part.is_file():
            raise WeightsError(f"{path} is missing its weights {part.name}.", "Keep both files in one folder.")
    return runtime
