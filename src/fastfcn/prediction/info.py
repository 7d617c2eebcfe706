"""`fastfcn info`: what a model file contains, read from the file alone, without PyTorch."""

from pathlib import Path
from typing import Any

from fastfcn.prediction.runtimes.registry import read_metadata, refuse_companion, runtime_of
from fastfcn.weights import header
from fastfcn.weights.info import describe
from fastfcn.weights.info import info as weights_info


def info(path: str | Path) -> dict[str, Any]:
    """Describe a weights file or an exported file; this is what `fastfcn info --json` prints. Raises WeightsError.

    For weights files, see `fastfcn.weights.info.info`. Exported files have the same keys except the numbers of
    parameters, `format` is that of `fastfcn export`, `bytes` is the size of all their files, and they have `runtime`
    (what runs them), `outputs` (labels, and logits if they have them), `precision` (f32 or int8) and `largest` (height
    and width of the largest image, or null if there is no limit).
    """
    runtime = runtime_of(path)
    if runtime is None:
        refuse_companion(path)
        return weights_info(path)
    file = Path(path)
    metadata = read_metadata(file)
    return {
        "file": str(path),
        "format": runtime.name,
        "bytes": sum(part.stat().st_size for part in runtime.files(file) if part.is_file()),
        "runtime": runtime.title,
        "outputs": ["labels", "logits"] if metadata.logits else ["labels"],
        "precision": metadata.precision,
        "largest": list(metadata.largest) if metadata.largest else None,
        **describe(metadata.header),
    }


def read_header(path: str | Path) -> header.Header:
    """Recipe and classes of a weights file or an exported file, without PyTorch. Raises WeightsError."""
    if runtime_of(path):
        return read_metadata(Path(path)).header
    refuse_companion(path)
    return header.read_header(path)[0]
