"""Hostile HTTP requests as raw bytes, reproducible from a seed."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
PATHS = ("/predict", "/predict?format=polygons", "/predict?format=overlay&opacity=0.3", "/predict/batch")
WRONG_TYPES = (
    "text/html",
    "application/json",
    "image/svg+xml",
    "video/mp4",
    "multipart/form-data",
    "a/b/c",
    "\x7f",
    "",
)
NOT_IMAGES = (
    b"", b"\0", b"GIF89a\x01\0\x01\0", b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"{}",
    b"PK\x03\x04", b"\0\0\0\x18ftypheic", b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"BM" + b"\xff" * 60,
    b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff",
)  # fmt: skip
QUERIES = (
    "format=none", "format=", "opacity=nan", "opacity=-1", "opacity=1e999", "opacity=x", "format=%00",
    "format=a&format=b", "opacity=" + "9" * 4000, "%ff=%fe", "format[]=runs",
)  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """`chunks` are sent with `pause` seconds in between."""

    kind: str
    chunks: list[bytes]
    pause: float = 0.0


def attacks(seed: int, count: int, slow: float = 0.0, kinds: tuple[str, ...] = ()) -> Iterator[Attack]:
    """Yield `count` attacks, cycling through `kinds`; slow clients pause `slow` seconds per chunk (0: none)."""
    used = [name for name in KINDS if (not kinds or name in kinds) and (slow or name != "slow sender")]
    for index in range(count):
        generator = np.random.default_rng([seed, index])
        kind = used[index % len(used)]
        chunks = KINDS[kind](generator)
        yield Attack(kind, chunks, slow if kind == "slow sender" else 0.0)


def small_image(generator: np.random.Generator, kind: str | None = None) -> bytes:
    """A valid small image in one of the formats."""
    size = generator.integers(1, 90, 2)
    image = Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8))
    mode = ("RGB", "L", "P", "RGBA", "1")[generator.integers(5)]
    kind = kind or FORMATS[generator.integers(len(FORMATS))]
    stream = io.BytesIO()
    image.convert("RGB" if kind == "JPEG" else mode).save(stream, kind)
    return stream.getvalue()


def post(path: str, body: bytes, kind: str = "application/octet-stream", *more: str) -> bytes:
    """A POST request for one response."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", "Connection: close", *more]
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def form(*files: bytes, boundary: str = "xyz", name: str = "image") -> tuple[bytes, str]:
    """Body and content type of a form with files."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="../../a\\b.png"\r\n\r\n'.encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _choice(generator: np.random.Generator, values: tuple) -> object:
    return values[generator.integers(len(values))]


def _path(generator: np.random.Generator) -> str:
    return str(_choice(generator, PATHS))


def _sent(generator: np.random.Generator, image: bytes) -> list[bytes]:
    """An image as the body or in a form."""
    path = _path(generator)
    if "batch" in path or generator.random() < 0.3:
        body, kind = form(image, small_image(generator), name="images") if "batch" in path else form(image)
        return [post(path, body, kind)]
    return [post(path, image)]


def truncated(generator: np.random.Generator) -> list[bytes]:
    data = small_image(generator)
    return _sent(generator, data[: generator.integers(0, len(data))])


def mutated(generator: np.random.Generator) -> list[bytes]:
    """Change some bytes, mostly near the beginning, where sizes and offsets are."""
    data = bytearray(small_image(generator))
    for _ in range(generator.integers(1, 12)):
        end = len(data) if generator.random() < 0.4 else min(len(data), 120)
        data[generator.integers(0, end)] = generator.integers(256)
    return _sent(generator, bytes(data))


def bomb(generator: np.random.Generator) -> list[bytes]:
    """A decompression bomb: small files that claim, or expand to, huge sizes."""
    side = int(generator.integers(4_000, 2**31 - 1))
    match generator.integers(5):
        case 0:
            image = _png(side, side, b"\0" * 100)
        case 1:
            image = _png(60_000, 60_000, zlib.compress(b"\0" * 1_000_000))
        case 2:
            image = (
                b"BM"
                + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, side, side, 1, 24, 0, 100, 0, 0, 0, 0)
                + b"\0" * 100
            )
        case 3:  # compressed text in the header
            text = b"zTXt" + b"a\0\0" + zlib.compress(b"\0" * 30_000_000)
            image = small_image(generator, "PNG")
            image = (
                image[:33] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + image[33:]
            )
        case _:
            stream = io.BytesIO()
            Image.new("1", (9_000, 9_000)).save(stream, "TIFF", compression="group4")
            image = stream.getvalue()
    return _sent(generator, image)


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wrong_type(generator: np.random.Generator) -> list[bytes]:
    body = bytes(_choice(generator, (*NOT_IMAGES, generator.bytes(500), small_image(generator))))  # type: ignore[arg-type]
    more = [] if generator.random() < 0.5 else ["Accept: text/html"]
    return [post(_path(generator), body, str(_choice(generator, WRONG_TYPES)), *more)]


def broken_form(generator: np.random.Generator) -> list[bytes]:
    body, kind = form(*[small_image(generator)] * int(generator.integers(1, 30)), name="images")
    match generator.integers(5):
        case 0:
            body = body[: generator.integers(len(body))]
        case 1:
            kind = "multipart/form-data; boundary=" + "z" * int(generator.integers(1, 300))
        case 2:
            body = body.replace(b"form-data", generator.bytes(20))
        case 3:
            body = b"--xyz\r\nA: " + b"b" * 30_000 + b"\r\n\r\n" + body
        case _:
            data = bytearray(body)
            for _ in range(20):
                data[generator.integers(len(data))] = generator.integers(256)
            body = bytes(data)
    return [post(_path(generator), body, kind)]


def wrong_query(generator: np.random.Generator) -> list[bytes]:
    return [post(f"/predict?{_choice(generator, QUERIES)}", small_image(generator))]


def huge_headers(generator: np.random.Generator) -> list[bytes]:
    size = int(generator.integers(1_000, 300_000))
    match generator.integers(4):
        case 0:
            return [post("/predict", b"", "image/png", "X: " + "y" * size)]
        case 1:
            return [post("/predict", b"", "image/png", *(f"X-{number}: y" for number in range(size // 100)))]
        case 2:
            return [f"GET /{'a' * size} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()]
        case _:
            return [
                post(
                    "/predict",
                    small_image(generator),
                    "image/png",
                    "X-Request-ID: " + "\t{}" * 50,
                    "Authorization: \xff",
                )
            ]


def broken_http(generator: np.random.Generator) -> list[bytes]:
    lines = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nzz\r\n",
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        "POST /predict HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        "GET /page/..%2f..%2fapp.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /examples/%00.jpg HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "OPTIONS /predict HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\nConnection: close\r\n\r\n",
        "POST /predict HTTP/1.1\r\nHost: ::1\r\nOrigin: http://[\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "POST /predict HTTP/1.1\r\nHost: [::1]\r\nOrigin: http://[\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "GET /info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" * 3,
    )
    return [str(_choice(generator, lines)).encode("latin-1"), b""]


def slow_sender(generator: np.random.Generator) -> list[bytes]:
    """Headers or a body that arrive byte by byte, or never."""
    request = post("/predict", small_image(generator))
    start = request.index(b"\r\n\r\n") + 4 if generator.random() < 0.5 else 1
    return [request[:start], *(request[at : at + 1] for at in range(start, min(len(request), start + 200)))]


KINDS: dict[str, Callable[[np.random.Generator], list[bytes]]] = {
    "truncated image": truncated,
    "mutated image": mutated,
    "pixel bomb": bomb,
    "wrong type": wrong_type,
    "broken form": broken_form,
    "wrong query": wrong_query,
    "huge headers": huge_headers,
    "broken HTTP": broken_http,
    "slow sender": slow_sender,
}
