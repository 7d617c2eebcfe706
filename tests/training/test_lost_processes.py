"""When one of two processes is killed, the other says which one and how to continue, and the run can be resumed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastfcn.training.run import Run
from tests.helpers.tiny import NARROW, write_streets


@pytest.mark.skipif(sys.platform != "linux", reason="child processes are found in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_named(tmp_path: Path, victim: int):
    data, out, printed = write_streets(tmp_path / "data"), tmp_path / "run", tmp_path / "printed.txt"
    command = [sys.executable, "-m", "fastfcn", "train", "demo", *NARROW, "optim.steps=5000", "eval.every=5",
               "--data", str(data), "--out", str(out), "--accelerator", "cpu", "--workers", "0", "--no-report",
               "--devices", "2"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FASTFCN_KERNELS": "off"}
    with printed.open("w") as output, subprocess.Popen(
        command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    ) as main:  # fmt: skip
        try:
            wait_for(lambda: Run(out).checkpoint.exists())
            child = next(pid for pid in children(main.pid) if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes())
            os.kill(child if victim else main.pid, signal.SIGKILL)
            wait_for(lambda: main.poll() is not None and not is_running(child))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(main.pid, signal.SIGKILL)
    text = printed.read_text()
    assert "Traceback" not in text
    assert "--resume" in text.replace("\n", " ")
    if victim:
        assert f"process 1 (pid {child}) was killed by signal SIGKILL" in text
        assert main.returncode == 2
    else:
        assert "Process 1 of 2 stopped: another process of the run has ended." in text
    assert Run(out).checkpoint.exists()


def test_a_process_that_waits_forever_is_ended_with_the_same_message():
    script = """
import subprocess, sys, time
from types import SimpleNamespace
from fastfcn.training import lost_processes
failing = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
waiting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(waiting.pid, flush=True)
launcher = SimpleNamespace(procs=[failing, waiting])
lost_processes.GRACE_SECONDS = 0.2
fabric = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher), global_rank=0, world_size=3)
with lost_processes.lost_processes(fabric):
    assert launcher.procs == []
    time.sleep(600)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "process 1 (pid" in result.stderr
    assert "ended with exit code 3" in result.stderr
    assert "--resume" in result.stderr
    assert not is_running(int(result.stdout)) or sys.platform != "linux"


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition) -> None:
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
