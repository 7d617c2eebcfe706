"""Does `fastfcn serve` keep its promises under load? Throughput, latency, refusals, memory, and a clean end.

    python benchmarks/serve_load.py
    python benchmarks/serve_load.py --weights weights.safetensors --size 512x1024 --seconds 60

On this machine only: 16 clients for --seconds, then ten times as many for as long, each with one image at a time and
coming back after the Retry-After of a refusal; then SIGTERM while those go on. The same predictor runs the same batches
offline before and after. Writes benchmarks/results/serve_load.json, and exits with 1 where a bound does not hold.
"""

import argparse
import asyncio
import io
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import fastfcn
from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.bench.record import image_size, machine_info
from fastfcn.demo.streets import draw
from fastfcn.utils.files import write_text
from fastfcn.utils.provenance import command
from serving.process import ServiceProcess, growth, random_weights, watched
from serving.wire import Connection, UnansweredError

RESULTS = Path(__file__).parent / "results" / "serve_load.json"
RECIPE = "fastfcn_r50_psp_camvid"
THROUGHPUT, SLOWER = 0.9, 2.0  # bounds: of offline; p99 at the higher load over that at the lower
LONGEST_PAUSE = 5.0  # seconds that a refused client stays away, at most


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help=f"random weights of {RECIPE} if left out")
    parser.add_argument("--size", type=image_size, default=(360, 480), metavar="HxW")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--times", type=int, default=10, help="as many clients in the second load")
    parser.add_argument("--max-batch", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(given)


def jpeg(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(draw(7, size)[0]).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def offline(weights: str, image: bytes, batch: int, seconds: float, progress: Callable[[int, int], None]) -> float:
    """Images a second of the predictor alone, in batches of `batch`."""
    progress(0, 1)
    predictor = fastfcn.load(weights, "cpu")
    images = np.stack([np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))] * batch)
    for _ in range(2):
        predictor.labels(images)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds or not count:
        predictor.labels(images)
        count += batch
    return count / (time.perf_counter() - began)


class Load:
    """Clients that send one image after another until they are told to stop."""

    def __init__(self, port: int, image: bytes):
        self.port, self.image = port, image
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []  # seconds of the accepted
        self.unanswered = self.turned_away = self.without_retry_after = 0
        self.stopped = asyncio.Event()

    async def client(self, number: int) -> None:
        connection = Connection(self.port)
        await asyncio.sleep(0.01 * number)
        while not self.stopped.is_set():
            began = time.perf_counter()
            try:
                reply = await connection.post("/predict?format=labels", self.image)
            except ConnectionRefusedError:  # the service listens no more
                self.turned_away += 1
                break
            except UnansweredError:
                self.unanswered += 1
                continue
            self.statuses[reply.status] += 1
            if reply.status == 200:
                self.latencies.append(time.perf_counter() - began)
            elif reply.status == 503:
                self.without_retry_after += "retry-after" not in reply.headers
                pause = min(LONGEST_PAUSE, float(reply.headers.get("retry-after", "1")))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stopped.wait(), pause)
        connection.close()

    async def run(self, clients: int, seconds: float) -> dict:
        began = time.perf_counter()
        tasks = [asyncio.ensure_future(self.client(number)) for number in range(clients)]
        await asyncio.sleep(seconds)
        answered, elapsed = self.statuses[200], time.perf_counter() - began
        self.stopped.set()
        await asyncio.gather(*tasks)
        return self.figures(clients) | {"images_per_second": round(answered / elapsed, 3)}

    def figures(self, clients: int) -> dict:
        times = np.percentile(self.latencies, (50, 95, 99)) if self.latencies else (float("nan"),) * 3
        return {
            "clients": clients,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "seconds_p50_p95_p99": [round(float(each), 4) for each in times],
            "refused_without_retry_after": self.without_retry_after,
            "unanswered": self.unanswered,
        }


async def ended(service: ServiceProcess, image: bytes, clients: int, seconds: float) -> dict:
    """SIGTERM under load: who was accepted, who got an answer, how it ended."""
    load = Load(service.port, image)
    tasks = [asyncio.ensure_future(load.client(number)) for number in range(clients)]
    await asyncio.sleep(seconds)
    before = load.statuses[200]
    service.terminate()
    began = time.perf_counter()
    await asyncio.gather(*tasks)
    code = await asyncio.to_thread(service.process.wait, 180)
    return load.figures(clients) | {
        "answered_after_sigterm": load.statuses[200] - before,
        "seconds_to_the_end": round(time.perf_counter() - began, 2),
        "exit_code": code,
    }


def verdict(record: dict) -> dict[str, bool]:
    """Which bounds hold."""
    low, high, end = record["load"], record["overload"], record["sigterm"]
    both = (low, high)
    return {
        f"throughput at least {THROUGHPUT} of offline": record["throughput_of_offline"] >= THROUGHPUT,
        f"p99 of the accepted at most {SLOWER} times": record["p99_ratio"] <= SLOWER,
        "the rest gets 503 with Retry-After": all(
            set(each["statuses"]) <= {"200", "503"} and not each["refused_without_retry_after"] for each in both
        ),
        "none lost": not any(each["unanswered"] for each in both) and record["lost"] == 0,
        "memory flat": record["memory"]["flat"] is not False,
        "SIGTERM finishes what was accepted": end["exit_code"] == 0 and record["lost"] == 0,
    }


def alone_on(weights: Path, image: bytes, asked: argparse.Namespace) -> float:
    """The predictor offline, in a process of its own."""
    arguments = (str(weights), image, asked.max_batch, asked.seconds / 4)
    return in_fresh_process(offline, *arguments, progress=lambda done, total: None)


def measure(asked: argparse.Namespace, folder: Path) -> dict:
    image = jpeg(asked.size)
    weights = asked.weights or random_weights(folder / "weights.safetensors", RECIPE)
    alone = [alone_on(weights, image, asked)]
    options = ["--max-batch", str(asked.max_batch)]
    with ServiceProcess(weights, folder / "log", options) as service:
        with watched(service) as memory:
            low = asyncio.run(started(service, image, asked.clients, asked.seconds))
            high = asyncio.run(started(service, image, asked.clients * asked.times, asked.seconds))
        end = asyncio.run(ended(service, image, asked.clients * asked.times, min(5.0, asked.seconds)))
        finished = sum(line["status"] != 503 for line in service.lines("request"))
    alone.append(alone_on(weights, image, asked))
    received = sum(each["statuses"].get("200", 0) for each in (low, high, end))
    return {
        "offline_images_per_second": [round(each, 3) for each in alone],
        "load": low,
        "overload": high,
        "sigterm": end,
        "throughput_of_offline": round(low["images_per_second"] * 2 / sum(alone), 4),
        "p99_ratio": round(high["seconds_p50_p95_p99"][2] / low["seconds_p50_p95_p99"][2], 3),
        "lost": finished - received,
        "memory": growth(memory),
    }


async def started(service: ServiceProcess, image: bytes, clients: int, seconds: float) -> dict:
    """A load on the running service."""
    return await Load(service.port, image).run(clients, seconds)


def main(given: list[str] | None = None) -> int:
    asked = arguments(given)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(asked, Path(folder))
    bounds = verdict(figures)
    about = {"command": command(), "date": datetime.now(UTC).date().isoformat()}
    about |= machine_info(torch.device("cpu"))
    about |= {"network": str(asked.weights or f"{RECIPE}, random weights"), "size": list(asked.size)}
    about |= {"seconds": asked.seconds, "max_batch": asked.max_batch}
    write_text(asked.out, json.dumps(about | figures | {"bounds": bounds}, indent=1) + "\n")
    print(json.dumps(figures | {"bounds": bounds}, indent=1))
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
