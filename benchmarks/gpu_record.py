"""Records of the measurements on a GPU that are not comparisons of speed: one row for each, written at once."""

import shlex
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import torch

from fastfcn.bench.record import machine_info, rounded
from speed_peers import results

PASSED = "passed"


class Record:
    """The rows of a file; `add` runs a measurement and writes its row before the next one starts."""

    def __init__(self, path: Path, device: str):
        """Raises ValueError if the file has the name of a GPU's figures and `device` is none."""
        if path.name.startswith("gpu_") and device != "cuda":
            raise ValueError(f"{path.name} is for figures of a GPU, not of {device}")
        self.path, self.rows = path, []
        self.start = {"device": device, **machine_info(torch.device(device))}
        words = [word for word in sys.argv[1:] if "/" not in word]  # without paths
        self.command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])

    def add(self, name: str, measure: Callable[[], str]) -> None:
        """Add a row with the text that `measure` returns, or the error that it raises."""
        start = monotonic()
        try:
            result, failed = measure(), False
        except Exception as error:  # one measurement must not stop the others
            traceback.print_exc(limit=-3)
            result, failed = f"FAILED: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", True
        row = {"name": name, "result": result, "failed": failed, "seconds": monotonic() - start}
        self.rows.append(row | {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "command": self.command})
        print(f"{name}: {result}", flush=True)
        results.write(self.path, self.start | {"rows": rounded(self.rows)})

    def finish(self) -> None:
        """Exit with 1 if a measurement failed."""
        raise SystemExit(any(row["failed"] for row in self.rows))
