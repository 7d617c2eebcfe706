"""What `fastfcn serve` does with hostile requests: never a 500, never a dead worker, memory flat.

    python benchmarks/serve_hostile.py
    python benchmarks/serve_hostile.py --count 300 --seed 7

On this machine only. Up to a third of the requests is what schemathesis makes of the service's OpenAPI document
(without it, `pip install schemathesis`, there are others in their place, which the results say); the others are
truncated and mutated images, pixel bombs, wrong types, broken forms and HTTP, huge headers, and slow senders. After
each hundred a good image must still be segmented. Writes benchmarks/results/serve_hostile.json; exits with 1 where a
bound does not hold.
"""

import argparse
import asyncio
import json
import tempfile
from collections import Counter, defaultdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from fastfcn.bench.record import machine_info
from fastfcn.utils.files import write_text
from fastfcn.utils.provenance import command
from serving.hostile import Attack, attacks, picture
from serving.process import ServiceProcess, growth, random_weights, watched
from serving.wire import HOST, Connection, send_raw

RESULTS = Path(__file__).parent / "results" / "serve_hostile.json"
TOGETHER = 16  # requests under way at once
PATIENCE = 90.0  # seconds for one of them; the service gives up on slow senders before
PAUSE = 0.5  # seconds between a slow sender's bytes
EVERY = 4  # hundreds of attacks for one visit of schemathesis


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="random weights of the recipe `demo` if left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(given)


class Tally:
    """Answers by the kind of request: a status, "closed" without an answer, or "hung"."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, kind: str, answer: str) -> None:
        self.answers[kind][answer] += 1

    def count(self, answer: str) -> int:
        return sum(each[answer] for each in self.answers.values())

    @property
    def total(self) -> int:
        return sum(sum(each.values()) for each in self.answers.values())


async def send_all(port: int, given: list[Attack], tally: Tally, patience: float = PATIENCE) -> None:
    """Send attacks, some at a time."""
    places = asyncio.Semaphore(TOGETHER)

    async def send(attack: Attack) -> None:
        async with places:
            try:
                status = await send_raw(port, attack.chunks, attack.pause, patience)
                tally.add(attack.kind, "closed" if status is None else str(status))
            except TimeoutError:
                tally.add(attack.kind, "hung")

    await asyncio.gather(*map(send, given))


async def is_sound(port: int) -> bool:
    """Whether a good image is still segmented."""
    connection = Connection(port)
    try:
        for _ in range(30):
            image = picture(np.random.default_rng(0), "PNG")
            reply = await connection.post("/predict?format=labels", image, "image/png")
            if reply.status != 503:
                return reply.status == 200
            await asyncio.sleep(1)
        return False
    finally:
        connection.close()


def send_schema(port: int, count: int, seed: int, tally: Tally) -> bool:
    """`count` requests that schemathesis makes of the OpenAPI document; False without schemathesis."""
    try:
        import hypothesis
        import schemathesis
        from schemathesis import GenerationMode
    except ImportError:
        return False
    schema = schemathesis.openapi.from_url(f"http://{HOST}:{port}/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    for number, operation in enumerate(operations):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            share = max(1, count // (2 * len(operations)))

            @hypothesis.seed(seed + number)
            @hypothesis.settings(
                max_examples=share,
                database=None,
                deadline=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.generate],
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case) -> None:
                reply = case.call(timeout=PATIENCE)
                tally.add(f"schemathesis {case.method} {case.operation.path}", str(reply.status_code))

            try:
                send()
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing of this kind can be made of this operation
    return True


def measure(asked: argparse.Namespace, folder: Path) -> dict:
    weights = asked.weights or random_weights(folder / "weights.safetensors", "demo")
    tally, sound = Tally(), []
    schema = True
    with ServiceProcess(
        weights, folder / "log", ["--max-megapixels", "1", "--timeout", "20", "--upload-timeout", "5"]
    ) as service:
        with watched(service) as memory:
            while tally.total < asked.count:
                turn = len(sound)
                given = list(attacks(asked.seed + turn, min(100, asked.count - tally.total), PAUSE))
                asyncio.run(send_all(service.port, given, tally))
                if schema and turn % EVERY == 0:
                    schema = send_schema(service.port, 100 * EVERY // 2, asked.seed + turn, tally)
                sound.append(asyncio.run(is_sound(service.port)))
            alive = service.alive
        service.terminate()
        code = service.process.wait(120)
        errors = service.lines("error")
    return {
        "requests": tally.total,
        "schemathesis": _version("schemathesis") if schema else "not installed: left out",
        "answers": {kind: dict(sorted(each.items())) for kind, each in sorted(tally.answers.items())},
        "status_500": tally.count("500"),
        "errors_in_the_log": len(errors),
        "first_errors": [each.get("traceback", "")[-600:] for each in errors[:3]],
        "hung": tally.count("hung"),
        "good_images_segmented": [sum(sound), len(sound)],
        "alive": alive,
        "exit_code": code,
        "memory": growth(memory),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def verdict(record: dict) -> dict[str, bool]:
    """Which bounds hold."""
    good, asked = record["good_images_segmented"]
    return {
        "never a 500": record["status_500"] == 0 and record["errors_in_the_log"] == 0,
        "never a dead worker": record["alive"] and good == asked and record["exit_code"] == 0,
        "nobody hangs": record["hung"] == 0,
        "memory flat": record["memory"]["flat"] is not False,
    }


def main(given: list[str] | None = None) -> int:
    asked = arguments(given)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(asked, Path(folder))
    bounds = verdict(figures)
    about = {"command": command(), "date": datetime.now(UTC).date().isoformat(), "seed": asked.seed}
    about |= machine_info(torch.device("cpu"))
    write_text(asked.out, json.dumps(about | figures | {"bounds": bounds}, indent=1) + "\n")
    print(json.dumps(figures | {"bounds": bounds}, indent=1))
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
