"""Runs commands of fastfcn as jobs of several processes, with the variables that torchrun sets.

The processes are forked, because importing PyTorch takes longer than training a few steps of a tiny network.

python -m tests.helpers.forked_job < JOBS, a JSON list of objects: `arguments` of fastfcn; optionally `signal`, which
the last process sends to itself after `step`. Prints the exit codes of the processes of each job, as JSON.
"""

import json
import os
import signal
import sys
import traceback

from lightning_fabric.plugins.environments.lightning import find_free_network_port

from fastfcn.cli import main
from fastfcn.training import train as train_module

PROCESSES = 2


def run(arguments: list[str], step: int = 0, signal_name: str = "") -> list[int]:
    """The exit codes of the processes of one job; negative for signals."""
    port = str(find_free_network_port())
    pids = []
    for rank in range(PROCESSES):
        pid = os.fork()
        if not pid:
            if signal_name and rank == PROCESSES - 1:
                send_after(step, signal.Signals[signal_name])
            os._exit(work(arguments, rank, port))
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def work(arguments: list[str], rank: int, port: str) -> int:
    os.environ.update(
        TORCHELASTIC_RUN_ID="test", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(PROCESSES),
        LOCAL_WORLD_SIZE=str(PROCESSES), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
    )  # fmt: skip
    sys.argv = ["fastfcn", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def send_after(step: int, number: signal.Signals) -> None:
    """Send this process a signal during the step after `step`."""
    plain = train_module.train_step

    def train_step(model, optimizer, batches, recipe, done, *more):
        if done == step:
            os.kill(os.getpid(), number)
        return plain(model, optimizer, batches, recipe, done, *more)

    train_module.train_step = train_step


if __name__ == "__main__":
    codes = [run(job["arguments"], job.get("step", 0), job.get("signal", "")) for job in json.load(sys.stdin)]
    print(json.dumps(codes))
