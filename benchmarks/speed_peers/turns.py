"""Variants in processes of their own that take turns: one calls while the others sleep."""

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
from speed_peers.calls import Place, image_path
from speed_peers.contests import Contest, Variant

TURN_SECONDS = 0.3  # a turn is as many calls as begin within this time, one at least
PAUSE = 0.05  # between turns: the threads of some libraries look for work for a while before they sleep


class Worker:
    """The process of one variant, seen from outside. Its methods raise RuntimeError where it fails."""

    def __init__(self, variant: Variant, contest: Contest, place: Place):
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(variant, contest, place, theirs))
        off = {} if variant.kernels else {"FASTFCN_KERNELS": "off"}
        with patch.dict(os.environ, off | {"OMP_NUM_THREADS": str(place.threads)}):
            self.process.start()
        theirs.close()
        self.loaded, self.labels, self.first = self._hear()

    def turn(self, seconds: float = TURN_SECONDS) -> tuple[list[float], float]:
        """Seconds of each call of a turn, and the processor's seconds in all of them."""
        self.line.send(seconds)
        return self._hear()

    def finish(self) -> tuple[float | None, str]:
        """The growth of its memory in MiB, from before its first call to the peak, and what that is."""
        self.line.send(None)
        return self._hear()

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.line.close()

    def _hear(self):
        try:
            kind, *said = self.line.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise RuntimeError(f"the process ended with code {self.process.exitcode}") from None
        if kind == "failed":
            raise RuntimeError(said[0])
        return said[0] if len(said) == 1 else tuple(said)


def serve(variant: Variant, contest: Contest, place: Place, line: Connection) -> None:
    """The life of a worker: load, call once, then a turn for each number that is sent, and the memory at the end."""
    warnings.simplefilter("ignore")  # the peers speak of deprecated functions at length
    try:
        torch.set_num_threads(place.threads)
        device = torch.device(place.device)
        image = np.load(image_path(place, contest))
        from speed_peers.loading import loader  # in the worker alone: the peers are large

        load = loader(variant.program)
        before = held_memory(device)
        call = load(variant, contest, place, image)
        loaded = held_memory(device) - before
        with peak_memory(device) as memory:
            start = perf_counter()
            labels = call()
            line.send(("ready", loaded, labels, perf_counter() - start))
            while (seconds := line.recv()) is not None:
                line.send(("turn", *calls(call, device, seconds)))
        line.send(("memory", memory.mib and memory.mib - (loaded if device.type == "cuda" else 0), memory.meaning))
    except Exception as error:
        traceback.print_exc()
        line.send(("failed", f"{type(error).__name__}: {error}"))


def calls(call: Callable[[], object], device: torch.device, seconds: float) -> tuple[list[float], float]:
    """Call until `seconds` are over, at least once: seconds of each call, and the processor's seconds in all."""
    taken: list[float] = []
    began, processor = perf_counter(), process_time()
    while not taken or perf_counter() - began < seconds:
        synchronize(device)
        start = perf_counter()
        call()
        synchronize(device)
        taken.append(perf_counter() - start)
    return taken, process_time() - processor


def held_memory(device: torch.device) -> float:
    """MiB of resident memory, or of tensors on the GPU."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / MIB
    ctypes.CDLL(None).malloc_trim(0)  # glibc hands back to the system what is free
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def rest() -> None:
    sleep(PAUSE)
