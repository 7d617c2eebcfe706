"""The loop: damage, read, and note what went wrong."""

import contextlib
import random
import resource
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fastfcn.errors import UserError
from tests.fuzz.targets import Target, make_targets

SECONDS, BYTES = 20, 4 * 2**30


@dataclass
class Result:
    """`faults`: where it was raised -> (how often, target of the first, its message)."""

    inputs: int = 0
    faults: dict[str, tuple[int, str, str]] = field(default_factory=dict)


class TooLongError(BaseException):
    """Reading one input took longer than SECONDS."""


def fuzz(
    folder: Path, count: int, seed: int = 0, only: str = "", keep: Path | None = None, progress: bool = False
) -> Result:
    """Read `count` damaged inputs, shared out over the targets by their weights."""
    targets = [target for target in make_targets(folder) if only in target.name]
    total, result = sum(target.weight for target in targets), Result()
    for target in targets:
        share = max(1, round(count * target.weight / total))
        for number in range(share):
            chance = random.Random(f"{seed} {target.name} {number}")
            content = target.change(chance.choice(target.seeds), chance)
            fault = run_one(target, content)
            result.inputs += 1
            if fault:
                place, text = fault
                times = result.faults.get(place, (0, "", ""))[0]
                if not times and keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{target.name.replace(' ', '_')}_{number}").write_bytes(content)
                first = (target.name, text) if not times else result.faults[place][1:]
                result.faults[place] = (times + 1, *first)
        if progress:
            print(f"{target.name}: {share} inputs", flush=True)
    return result


def run_one(target: Target, content: bytes) -> tuple[str, str] | None:
    """None where the input was read or refused; else where it went wrong, and the message."""
    try:
        with limits():
            target.run(content)
    except UserError:
        return None
    except TooLongError:
        return f"{target.name}: longer than {SECONDS} s", ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/fastfcn/" in frame.filename]
        last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno} {last.name}: {type(error).__name__}"
        return place, str(error)[:200]
    return None


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """An alarm, and a bound on the address space beyond what is in use."""

    def ring(*_: object) -> None:
        raise TooLongError

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
