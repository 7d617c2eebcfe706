"""The loop: damage, read, and note what went wrong."""

import contextlib
import random
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fastfcn.errors import UserError
from tests.fuzz.targets import Target, make_targets

SECONDS, PATIENCE, BYTES = 20, 200, 4 * 2**30  # of processor time, which a busy machine does not change; of waiting
TOO_LONG = f"longer than {SECONDS} s"


@dataclass
class Result:
    """`counts`: inputs by target; `faults`: where it was raised -> (how often, target of the first, its message)."""

    counts: dict[str, int] = field(default_factory=dict)
    faults: dict[str, tuple[int, str, str]] = field(default_factory=dict)

    def add(self, name: str, place: str, text: str) -> bool:
        """Count a fault; returns whether it is the first at this place."""
        times, first_name, first_text = self.faults.get(place, (0, name, text))
        self.faults[place] = (times + 1, first_name, first_text)
        return not times


class TooLongError(BaseException):
    """Reading one input took longer than SECONDS or PATIENCE."""


def fuzz(
    folder: Path, count: int, seed: int = 0, only: str = "", keep: Path | None = None, progress: bool = False
) -> Result:
    """Read `count` damaged inputs, shared out over the targets by their weights."""
    targets = [target for target in make_targets(folder) if only in target.name]
    total, result = sum(target.weight for target in targets), Result()
    for target in targets:
        share = max(1, round(count * target.weight / total))
        for number in range(share):
            fuzz_once(target, seed, number, result, keep)
        if fault := run_one(target.name, target.close):
            result.add(target.name, *fault)
        result.counts[target.name] = share
        if progress:
            print(f"{target.name}: {share} inputs", flush=True)
    return result


def fuzz_once(target: Target, seed: int, number: int, result: Result, keep: Path | None = None) -> None:
    """Read one input, which depends on seed, target and number."""
    rng = random.Random(f"{seed} {target.name} {number}")
    content = target.change(rng.choice(target.seeds), rng)
    fault = run_one(target.name, lambda: target.run(content))
    if fault and result.add(target.name, *fault) and keep:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{target.name.replace(' ', '_')}_{seed}_{number}").write_bytes(content)


def run_one(name: str, read: Callable[[], None]) -> tuple[str, str] | None:
    """None where an input was read or refused; else where it went wrong, and the message."""
    try:
        with limits():
            read()
    except UserError:
        return None
    except TooLongError:
        return f"{name}: {TOO_LONG}", ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trace = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in trace if "/fastfcn/" in frame.filename]
        last = frames[-1] if frames else trace[-1]
        place = f"{Path(last.filename).name}:{last.lineno} {last.name}: {type(error).__name__}"
        return place, str(error)[:200]
    return None


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Two alarms, and a bound on the address space beyond what is in use."""

    def ring(*_: object) -> None:
        raise TooLongError

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handlers = {number: signal.signal(number, ring) for number in (signal.SIGALRM, signal.SIGPROF)}
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
