"""Two torchrun agents train, and one of them is killed again and again: the run ends like one that was never stopped.

python -m tests.trials.elastic_training --kills 10 --seed 0

Each kill hits a random agent at a random moment, also while processes start: SIGKILL to the agent and its worker (a
machine is lost), SIGKILL to the worker alone (a crash), or SIGTERM to the agent (an eviction). Agents that ended are
started again by the same command, as SLURM and Kubernetes do. Compared are all losses, all scores and the last weights.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from fastfcn import weights
from fastfcn.training.run import Run
from tests.helpers.tiny import NARROW, write_streets

KINDS = ("machine", "worker", "eviction")
MINUTES = 60


class Agent:
    """One torchrun process with one worker; `start` starts it again after it has ended."""

    def __init__(self, name: str, arguments: list[str], port: int, folder: Path):
        self.log = folder / f"{name}.txt"
        self.command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts",
            "100", "--rdzv-backend", "c10d", "--rdzv-id", "trial", "--rdzv-endpoint", f"127.0.0.1:{port}",
            "--rdzv-conf", "join_timeout=300", "-m", "fastfcn", *arguments,
        ]  # fmt: skip
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        with self.log.open("a") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=subprocess.STDOUT)

    def workers(self) -> list[int]:
        """Processes that this one started; none if it has ended."""
        try:
            return list(
                map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())
            )
        except OSError:
            return []

    def kill(self, kind: str) -> None:
        workers = self.workers()
        if kind == "machine":
            self.process.kill()
        if kind == "eviction":
            self.process.terminate()
        else:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)


class Moment:
    """When to kill next, and how: after some steps of training, or, often while processes start, after some seconds."""

    def __init__(self, generator: random.Random, step: int, steps: int, seconds: float):
        self.kind = generator.choice(KINDS)
        self.step = step + generator.randint(1, steps)
        early = generator.random() < 0.3
        self.time = time.monotonic() + (generator.uniform(0, seconds) if early else sys.maxsize)

    def has_come(self, step: int) -> bool:
        return step >= self.step or time.monotonic() >= self.time


def train(arguments: list[str], folder: Path, kills: int, generator: random.Random, options: argparse.Namespace) -> int:
    """Train with two agents until both end with exit code 0; returns the number of kills."""
    port, killed, end = find_free_network_port(), 0, time.monotonic() + 60 * MINUTES
    agents = [Agent(name, arguments, port, folder) for name in ("first", "second")]

    def next_moment() -> Moment:
        return Moment(generator, last_step(arguments), options.steps // (kills + 2), options.seconds)

    moment = next_moment()
    while not all(agent.process.poll() == 0 for agent in agents):
        if time.monotonic() > end:
            raise SystemExit(f"not finished after {MINUTES} minutes; see {folder}")
        step = last_step(arguments)
        if killed < kills and moment.has_come(step):
            agent = generator.choice(agents)
            print(f"  {moment.kind} of the {agent.log.stem} agent at step {step}", flush=True)
            agent.kill(moment.kind)
            killed += 1
            moment = next_moment()
        for agent in agents:
            # One agent may have finished while the other was killed: then there is nothing left to do but to report.
            if agent.process.poll() not in (None, 0) or (agent.process.poll() == 0 and any_failed(agents)):
                agent.start()
        time.sleep(0.1)
    print(f"  agents started {[agent.starts for agent in agents]} times", flush=True)
    return killed


def any_failed(agents: list[Agent]) -> bool:
    return any(agent.process.poll() not in (None, 0) for agent in agents)


def last_step(arguments: list[str]) -> int:
    log = Run(arguments[arguments.index("--out") + 1]).read_log()
    return log[-1]["step"] if log else 0


def comparable(run: Run) -> list[str]:
    lines = [{key: value for key, value in line.items() if key != "images_per_second"} for line in run.read_log()]
    return [json.dumps(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=40.0, help="at most between kills that do not wait for a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="keep everything here")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="elastic-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "FASTFCN_KERNELS": "off"}
    generator = random.Random(options.seed)
    data = write_streets(folder / "streets")

    def arguments(name: str) -> list[str]:
        changes = [*NARROW, f"optim.steps={options.steps}", "eval.every=25"]
        return ["train", "demo", *changes, "--data", str(data), "--out", str(folder / name), "--accelerator", "cpu",
                "--workers", "0", "--no-report", "--resume"]  # fmt: skip

    print(f"with kills, in {folder}:", flush=True)
    kills = train(arguments("killed"), folder, options.kills, generator, options)
    print("never stopped:", flush=True)
    train(arguments("whole"), folder, 0, generator, options)
    killed, whole = Run(folder / "killed"), Run(folder / "whole")
    first, second = weights.read(killed.last).tensors, weights.read(whole.last).tensors
    equal = comparable(killed) == comparable(whole) and all(torch.equal(first[name], second[name]) for name in first)
    print(f"{kills} kills; {len(comparable(whole))} lines of the log and the last weights are "
          f"{'equal' if equal else 'NOT EQUAL'}")  # fmt: skip
    raise SystemExit(0 if equal and kills == options.kills else 1)


if __name__ == "__main__":
    main()
