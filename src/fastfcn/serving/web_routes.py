"""Routes of the web page and its example images. The page loads nothing from other servers."""

import asyncio
import io
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from fastfcn.serving import problems

if TYPE_CHECKING:
    from fastapi import FastAPI

FOLDER = Path(__file__).parent / "web"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
EXAMPLES = (5, 12, 23, 31)  # seeds of synthetic street scenes
EXAMPLE_SIZE = (360, 480)
STREET_CLASSES = frozenset(["road", "building", "car", "sky", "tree", "person"])


def add_web_routes(app: "FastAPI") -> None:
    """Add `/`, its files under `/page/`, and `/examples/NUMBER.jpg`."""
    from fastapi import Request, Response

    files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in TYPES}
    tags = {name: f'"{sha256(content).hexdigest()[:16]}"' for name, content in files.items()}

    def file(name: str, request: Request) -> Response:
        if name not in files:
            raise problems.from_status(404)
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers=headers | {"Content-Type": TYPES[Path(name).suffix]})

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return file("index.html", request)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return file("icon.svg", request)

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str, request: Request) -> Response:
        return file(name, request)

    @app.get("/examples/{name}", include_in_schema=False)
    async def example(name: str) -> Response:
        numbers = {f"{number}.jpg": seed for number, seed in enumerate(EXAMPLES, 1)}
        if name not in numbers:
            raise problems.from_status(404)
        content = await asyncio.to_thread(street_jpeg, numbers[name])
        return Response(content, media_type="image/jpeg")


def example_count(class_names: Iterable[str]) -> int:
    """How many examples the page offers: none to a model that does not know streets."""
    return len(EXAMPLES) if len(STREET_CLASSES & {name.lower() for name in class_names}) >= 3 else 0


@cache
def street_jpeg(seed: int) -> bytes:
    """A synthetic street scene as a JPEG file."""
    from fastfcn.demo.streets import draw

    stream = io.BytesIO()
    Image.fromarray(draw(seed, EXAMPLE_SIZE)[0]).save(stream, "JPEG", quality=90)
    return stream.getvalue()
