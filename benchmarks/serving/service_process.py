"""`fastfcn serve` as a subprocess: address, memory, log and exit."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import TracebackType

import torch
from torch import nn

from fastfcn import build, recipes, weights
from fastfcn.bench.memory import sample_in_background

START_SECONDS = 600.0
MEMORY_SECONDS = 0.25  # between two samples


def random_weights(path: Path, name: str) -> Path:
    """Write a weights file of a recipe with fixed random weights."""
    torch.manual_seed(0)
    recipe = recipes.load(name, ["backbone.pretrained=none"])
    network = build.create(recipe)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    weights.save(path, network, recipe, build.description(recipe))
    return path


class ServiceProcess:
    """A running service; killed at the end of the block."""

    def __init__(self, file: Path, log: Path, options: list[str]):
        self.log = log
        self._stream = log.open("w")
        command = [sys.executable, "-m", "fastfcn", "serve", str(file), "--port", "0", "--device", "cpu", *options]
        self.process = subprocess.Popen(command, stdout=self._stream, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> "ServiceProcess":
        self.port = self._port()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()
        self._stream.close()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def lines(self, event: str) -> list[dict]:
        """The log lines of an event."""
        lines = self.log.read_text().rpartition("\n")[0].splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == event]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def memory(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def _port(self) -> int:
        """The port, from the log."""
        last = time.monotonic() + START_SECONDS
        while time.monotonic() < last and self.alive:
            started = self.lines("started")
            if started:
                return int(started[0]["url"].rsplit(":", 1)[1])
            time.sleep(0.1)
        self.process.kill()
        assert self.process.stderr
        raise SystemExit(f"The service did not start:\n{self.process.stderr.read()}")


@contextmanager
def watch_memory(service: ServiceProcess) -> Iterator[list[float]]:
    """Yields a list that is filled with the memory of the service (MiB), four times per second."""
    samples: list[float] = []
    with sample_in_background(MEMORY_SECONDS, lambda: samples.append(service.memory()) if service.alive else None):
        yield samples


def growth(samples: list[float]) -> dict:
    """Memory growth after warm-up: medians of the second and the last third of the samples."""
    if len(samples) < 6:
        return {"samples": len(samples), "flat": None}
    third = len(samples) // 3
    before, after = median(samples[third : 2 * third]), median(samples[-third:])
    flat = after - before <= max(0.05 * before, 16)
    return {"samples": len(samples), "middle_mib": round(before, 1), "end_mib": round(after, 1), "flat": flat}
