"""Measure `fastfcn serve` under load: throughput, latency, refused requests, memory, and shutdown.

    python benchmarks/serve_load.py
    python benchmarks/serve_load.py --weights weights.safetensors --size 512x1024 --seconds 60

Runs on this machine only. First the predictor without the service and 16 clients of the service take turns, because
the speed of a machine changes over minutes; throughput is the ratio of the medians. Then ten times as many clients for
--seconds. Each sends one image at a time and waits for Retry-After if refused. Hostile clients join the second load:
without pauses, they send progressive JPEGs of tens of thousands of scans and PNGs of one line, both beyond and just
within the limits. Then the service gets SIGTERM under that load. Writes benchmarks/results/serve_load.json; exits with
1 if a target is missed.
"""

import argparse
import asyncio
import io
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

import fastfcn
from fastfcn.bench.record import machine_info
from fastfcn.data.image_limits import MAX_SCANS
from fastfcn.demo.streets import draw
from fastfcn.recipes.inference import image_size
from fastfcn.serving.settings import Settings
from fastfcn.utils.files import write_text
from fastfcn.utils.provenance import command
from serving.hostile_images import many_scans, thin_png
from serving.http_client import Connection, Reply, UnansweredError
from serving.service_process import ServiceProcess, growth, random_weights, watch_memory

RESULTS = Path(__file__).parent / "results" / "serve_load.json"
RECIPE = "fastfcn_r50_psp_camvid"
MIN_THROUGHPUT, MAX_P99_RATIO = 0.9, 2.0  # of offline; p99 at high load, of p99 at low load and of its own median
TURNS = 4  # of the predictor without the service, and of the clients of the first load
OFFLINE_SECONDS, LOAD_SECONDS = 5.0, 10.0  # of one turn
HOSTILE_STATUSES = {"200", "413", "422", "503"}
MAX_PAUSE = 5.0  # seconds, of a refused client


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help=f"weights file (default: {RECIPE} with random weights)")
    parser.add_argument("--size", type=image_size, default=(480, 640), metavar="HxW", help="image size")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the second load (default: 60)")
    parser.add_argument("--clients", type=int, default=16, help="clients of the first load")
    parser.add_argument("--times", type=int, default=10, help="factor of clients in the second load")
    parser.add_argument("--hostile", type=int, default=4, help="hostile clients in the second load (default: 4)")
    parser.add_argument("--max-batch", type=int, default=1, help="batch size of the service")
    parser.add_argument("--out", type=Path, default=RESULTS, help="output file")
    return parser.parse_args(argv)


def jpeg(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(draw(7, size)[0]).save(stream, "JPEG", quality=92)
    return stream.getvalue()


class Offline:
    """The predictor without the service, in batches of `batch` images."""

    def __init__(self, weights: Path, image: bytes, batch: int):
        self.predictor = fastfcn.load(weights, "cpu")
        self.images = np.stack([np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))] * batch)
        for _ in range(2):  # the first batches are slower
            self.predictor.labels(self.images)

    def run(self, seconds: float) -> float:
        """Images per second."""
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds or not count:
            self.predictor.labels(self.images)
            count += len(self.images)
        return count / (time.perf_counter() - start)


@cache
def hostile_images() -> tuple[bytes, ...]:
    """Files that take long to decode or much memory: refused by their headers, and just within the limits."""
    return (
        many_scans(2880, 2880, 60_000),
        thin_png(8_388_608),
        many_scans(640, 480, MAX_SCANS - 20),
        thin_png(Settings.max_side),
    )


class Load:
    """Clients that send one image after another until stopped; `hostile` more send hostile images."""

    def __init__(self, port: int, image: bytes, hostile: int = 0):
        self.port, self.image, self.hostile = port, image, hostile
        self.statuses: Counter[int] = Counter()
        self.hostile_statuses: Counter[int] = Counter()
        self.latencies: list[float] = []  # seconds, of accepted requests
        self.last_answer = 0.0  # when the last request was accepted and answered
        self.unanswered = self.refused_connections = self.without_retry_after = 0
        self.stopped = asyncio.Event()

    def start(self, clients: int) -> list[asyncio.Future]:
        """All clients, as tasks."""
        work = [self.client(number, [self.image], self.statuses) for number in range(clients)]
        for number in range(self.hostile):
            images = hostile_images()[number % 4 :] + hostile_images()[: number % 4]
            work.append(self.client(number, images, self.hostile_statuses))
        return [asyncio.ensure_future(task) for task in work]

    async def client(self, number: int, images: Sequence[bytes], statuses: Counter[int]) -> None:
        connection = Connection(self.port)
        await asyncio.sleep(0.01 * number)
        for image in cycle(images):
            if self.stopped.is_set():
                break
            start = time.perf_counter()
            try:
                reply = await connection.post("/predict?format=labels", image)
            except ConnectionRefusedError:  # the service has stopped listening
                self.refused_connections += 1
                break
            except UnansweredError:
                self.unanswered += 1
                continue
            statuses[reply.status] += 1
            if reply.status == 200 and image is self.image:
                self.last_answer = time.perf_counter()
                self.latencies.append(self.last_answer - start)
            elif reply.status == 503:
                await self.wait_after(reply)
        connection.close()

    async def wait_after(self, reply: Reply) -> None:
        """Wait as long as a refusal asks for."""
        self.without_retry_after += "retry-after" not in reply.headers
        pause = min(MAX_PAUSE, float(reply.headers.get("retry-after", "1")))
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), pause)

    async def run(self, clients: int, seconds: float) -> float:
        """Images per second; clients send images for so many seconds and wait for the answers. May be called again."""
        self.stopped.clear()
        before, start = len(self.latencies), time.perf_counter()
        tasks = self.start(clients)
        await asyncio.sleep(seconds)
        self.stopped.set()
        await asyncio.gather(*tasks)
        return (len(self.latencies) - before) / (self.last_answer - start)

    def figures(self, clients: int) -> dict:
        times = np.percentile(self.latencies, (50, 95, 99)) if self.latencies else (float("nan"),) * 3
        return {
            "clients": clients,
            "statuses": counts(self.statuses),
            "hostile_clients": self.hostile,
            "hostile_statuses": counts(self.hostile_statuses),
            "seconds_p50_p95_p99": [round(float(value), 4) for value in times],
            "refused_without_retry_after": self.without_retry_after,
            "unanswered": self.unanswered,
        }


def counts(statuses: Counter[int]) -> dict[str, int]:
    return {str(status): count for status, count in sorted(statuses.items())}


async def take_turns(offline: Offline, load: Load, clients: int, seconds: float) -> tuple[list[float], list[float]]:
    """Images per second of the predictor without the service and of the clients; no turn is longer than `seconds`."""
    alone, served = [], []
    for _ in range(TURNS):
        alone.append(offline.run(min(OFFLINE_SECONDS, seconds)))  # no client is waiting
        served.append(await load.run(clients, min(LOAD_SECONDS, seconds)))
    return alone, served


async def stop_under_load(
    service: ServiceProcess, image: bytes, clients: int, seconds: float, hostile: int = 0
) -> dict:
    """Send SIGTERM under load; counts accepted and answered requests, and the time to shut down."""
    load = Load(service.port, image, hostile)
    tasks = load.start(clients)
    await asyncio.sleep(seconds)
    before = load.statuses[200]
    service.terminate()
    start = time.perf_counter()
    await asyncio.gather(*tasks)
    code = await asyncio.to_thread(service.process.wait, 180)
    return load.figures(clients) | {
        "answered_after_sigterm": load.statuses[200] - before,
        "seconds_to_the_end": round(time.perf_counter() - start, 2),
        "exit_code": code,
    }


def verdict(record: dict) -> dict[str, bool]:
    """Which targets are met."""
    low, high, end = record["load"], record["overload"], record["sigterm"]
    both, hostile = (low, high), high["hostile_statuses"] | end["hostile_statuses"]
    p50, _, p99 = high["seconds_p50_p95_p99"]
    return {
        f"throughput at least {MIN_THROUGHPUT} of offline": record["throughput_of_offline"] >= MIN_THROUGHPUT,
        f"p99 of the accepted at most {MAX_P99_RATIO} times": record["p99_ratio"] <= MAX_P99_RATIO,
        f"p99 at most {MAX_P99_RATIO} times the median, under overload": p99 <= MAX_P99_RATIO * p50,
        "hostile images are answered and do no harm": set(hostile) <= HOSTILE_STATUSES,
        "the rest gets 503 with Retry-After": all(
            set(load["statuses"]) <= {"200", "503"} and not load["refused_without_retry_after"] for load in both
        ),
        "none lost": not any(load["unanswered"] for load in both) and record["lost"] == 0,
        "memory flat": record["memory"]["flat"] is not False,
        "SIGTERM finishes what was accepted": end["exit_code"] == 0 and record["lost"] == 0,
    }


def measure(args: argparse.Namespace, folder: Path) -> dict:
    image = jpeg(args.size)
    weights = args.weights or random_weights(folder / "weights.safetensors", RECIPE)
    options, many = ["--max-batch", str(args.max_batch)], args.clients * args.times
    with ServiceProcess(weights, folder / "log", options) as service:
        load, overload = Load(service.port, image), Load(service.port, image, args.hostile)
        offline = Offline(weights, image, args.max_batch)
        alone, served = asyncio.run(take_turns(offline, load, args.clients, args.seconds))
        with watch_memory(service) as memory:
            speed = asyncio.run(overload.run(many, args.seconds))
        end = asyncio.run(stop_under_load(service, image, many, min(5.0, args.seconds), args.hostile))
        finished = sum(line["status"] != 503 for line in service.lines("request"))
    low, high = load.figures(args.clients), overload.figures(many)
    low |= {"images_per_second": round(median(served), 3), "of_turns": rounded(served)}
    high |= {"images_per_second": round(speed, 3)}
    loads = (low, high, end)
    received = sum(load["statuses"].get("200", 0) + not_busy(load["hostile_statuses"]) for load in loads)
    return {
        "offline_images_per_second": rounded(alone),
        "load": low,
        "overload": high,
        "sigterm": end,
        "throughput_of_offline": round(median(served) / median(alone), 4),
        "p99_ratio": round(high["seconds_p50_p95_p99"][2] / low["seconds_p50_p95_p99"][2], 3),
        "lost": finished - received,
        "memory": growth(memory),
    }


def rounded(speeds: list[float]) -> list[float]:
    return [round(speed, 3) for speed in speeds]


def not_busy(statuses: dict[str, int]) -> int:
    """The number of responses that are no 503."""
    return sum(count for status, count in statuses.items() if status != "503")


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(args, Path(folder))
    bounds = verdict(figures)
    record = {"command": command(), "date": datetime.now(UTC).date().isoformat()}
    record |= machine_info(torch.device("cpu"))
    record |= {"network": str(args.weights or f"{RECIPE}, random weights"), "size": list(args.size)}
    record |= {"seconds": args.seconds, "max_batch": args.max_batch}
    write_text(args.out, json.dumps(record | figures | {"bounds": bounds}, indent=1) + "\n")
    print(json.dumps(figures | {"bounds": bounds}, indent=1))
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
