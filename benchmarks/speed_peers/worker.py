"""Variants in separate processes that run one at a time."""

import ctypes
import gc
import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time, sleep
from unittest.mock import patch

import numpy as np
import torch

from fastfcn.bench.memory import MIB, peak_memory
from fastfcn.bench.timing import synchronize
from speed_peers.comparisons import Comparison, Variant
from speed_peers.environment import Environment, image_path

TURN_SECONDS = 0.3  # duration of a turn; at least one call
PAUSE_SECONDS = 0.05  # between turns: threads of some libraries spin for a while before they sleep


class Worker:
    """The process of one variant; `wait` until it has loaded. Methods raise RuntimeError if it fails."""

    def __init__(self, variant: Variant, comparison: Comparison, environment: Environment):
        context = multiprocessing.get_context("spawn")
        self.connection, child_connection = context.Pipe()
        self.process = context.Process(target=serve, args=(variant, comparison, environment, child_connection))
        off = {} if variant.kernels else {"FASTFCN_KERNELS": "off"}
        with patch.dict(os.environ, off | {"OMP_NUM_THREADS": str(environment.threads)}):
            self.process.start()
        child_connection.close()

    def wait(self) -> None:
        """Wait until the network has been loaded and called once."""
        self.loaded, self.labels, self.first = self._receive()

    def turn(self, seconds: float = TURN_SECONDS) -> tuple[list[float], float]:
        """Run one turn; returns the seconds of each call and the CPU seconds of all."""
        self.connection.send(seconds)
        return self._receive()

    def finish(self) -> tuple[float | None, str]:
        """Memory growth in MiB from before the first call to the peak, and a description of what was measured."""
        self.connection.send(None)
        return self._receive()

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _receive(self):
        try:
            kind, *values = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise RuntimeError(f"the process ended with code {self.process.exitcode}") from None
        if kind == "failed":
            raise RuntimeError(values[0])
        return values[0] if len(values) == 1 else tuple(values)


def serve(variant: Variant, comparison: Comparison, environment: Environment, connection: Connection) -> None:
    """Main function of a worker: load, call once, run a turn for each number received, and report memory at the end."""
    warnings.simplefilter("ignore")  # the other libraries print many deprecation warnings
    try:
        torch.set_num_threads(environment.threads)
        device = torch.device(environment.device)
        image = np.load(image_path(environment, comparison))
        from speed_peers.loaders import loader  # only in the worker: these libraries are large

        load = loader(variant.program)
        before = allocated_memory(device)
        call = load(variant, comparison, environment, image)
        loaded = allocated_memory(device) - before
        with peak_memory(device) as memory:
            start = perf_counter()
            labels = call()
            connection.send(("ready", loaded, labels, perf_counter() - start))
            while (seconds := connection.recv()) is not None:
                connection.send(("turn", *calls(call, device, seconds)))
        connection.send(
            ("memory", memory.mib and memory.mib - (loaded if device.type == "cuda" else 0), memory.meaning)
        )
    except Exception as error:
        traceback.print_exc()
        connection.send(("failed", f"{type(error).__name__}: {error}"))


def calls(call: Callable[[], object], device: torch.device, seconds: float) -> tuple[list[float], float]:
    """Call for `seconds`, at least once; returns the seconds of each call and the CPU seconds of all."""
    durations: list[float] = []
    begin, cpu_start = perf_counter(), process_time()
    while not durations or perf_counter() - begin < seconds:
        synchronize(device)
        start = perf_counter()
        call()
        synchronize(device)
        durations.append(perf_counter() - start)
    return durations, process_time() - cpu_start


def allocated_memory(device: torch.device) -> float:
    """MiB of resident memory, or of tensors on the GPU."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / MIB
    ctypes.CDLL(None).malloc_trim(0)  # lets glibc return free memory to the system
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def pause() -> None:
    sleep(PAUSE_SECONDS)
