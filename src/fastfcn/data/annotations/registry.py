"""The registry of annotation formats: lookup by name, and recognition of a folder."""

import pkgutil
from importlib import import_module
from pathlib import Path

from fastfcn.data import annotations
from fastfcn.data.annotations.export import Format
from fastfcn.data.annotations.folder import ExportFolder
from fastfcn.errors import UserError
from fastfcn.utils.spelling import did_you_mean

_PACKAGE = annotations.__name__


def _discover() -> dict[str, Format]:
    """The `FORMAT` entry of every module in this folder that defines one, by name."""
    names = [f"{_PACKAGE}.{module.name}" for module in pkgutil.iter_modules(annotations.__path__)]
    modules = [import_module(name) for name in names if name != __name__]
    entries = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return {entry.name: entry for entry in entries}


FORMATS: dict[str, Format] = _discover()


def find_format(name: str) -> Format:
    """The format of that name. Raises UserError if there is none."""
    if name not in FORMATS:
        raise UserError(
            f"Unknown annotation format {name!r}{did_you_mean(name, FORMATS)}", f"Choose one of {', '.join(FORMATS)}."
        )
    return FORMATS[name]


def recognize(folder: ExportFolder | Path) -> list[Format]:
    """The formats that a folder may have, usually one or none."""
    folder = ExportFolder(folder) if isinstance(folder, Path) else folder
    return [entry for entry in FORMATS.values() if entry.recognizes(folder)]
