"""`POST /predict` and `POST /predict/batch`."""

import asyncio
import json
from time import monotonic
from typing import TYPE_CHECKING

from fastfcn.errors import MissingExtraError
from fastfcn.serving import openapi
from fastfcn.serving.body_limits import announced_length, body_of
from fastfcn.serving.formats import Answer, chosen_format, packed
from fastfcn.serving.problems import Problem
from fastfcn.serving.service import Outcome, Service, outcome_of, unless_gone
from fastfcn.serving.uploads import Upload, uploads

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

FORMAT = "runs (JSON), polygons (GeoJSON), labels (PNG of class ids) or overlay (JPEG); else by Accept."


def add_predict_routes(app: "FastAPI", service: Service) -> None:
    """Add both routes to `app`."""
    try:
        from fastapi import Query, Request, Response
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve", "The service") from error

    asked = Query(None, alias="format", description=FORMAT, examples=["runs"], max_length=30)
    mixed = Query(0.5, ge=0, le=1, description="Of the colours of an overlay.")

    @app.post("/predict", responses=openapi.answers(False), openapi_extra=openapi.request_body(False))
    async def predict(request: Request, kind: str | None = asked, opacity: float = mixed) -> Response:
        """Segment one image: its bytes as the body, or a form with the field `image`."""
        wanted = chosen_format(kind, request.headers.get("accept", ""))
        found = await _images(request, service, 1)
        outcome = (await _predicted(request, service, found, wanted, opacity))[0]
        if isinstance(outcome, Problem):
            raise outcome
        request.state.notes |= outcome.milliseconds | {"size": "{}x{}".format(*outcome.size), "format": wanted}
        timing = ", ".join(f"{name};dur={value}" for name, value in outcome.milliseconds.items())
        return Response(outcome.answer.content, media_type=outcome.answer.media, headers={"Server-Timing": timing})

    @app.post("/predict/batch", responses=openapi.answers(True), openapi_extra=openapi.request_body(True))
    async def predict_batch(request: Request, kind: str | None = asked, opacity: float = mixed) -> Response:
        """Segment the images of a form, each a file: JSON with `results`, or for pictures a ZIP archive.

        An image with a problem has its problem in its place; the others go on.
        """
        accept = request.headers.get("accept", "").replace("application/zip", "image/png")
        wanted = chosen_format(kind, accept)
        found = await _images(request, service, service.settings.max_images)
        names = [each.name for each in found]
        outcomes = await _predicted(request, service, found, wanted, opacity)
        request.state.notes |= {"images": len(outcomes), "format": wanted}
        answer = _together(names, outcomes, wanted, request.state.request_id)
        return Response(answer.content, media_type=answer.media)


async def _images(request: "Request", service: Service, most: int) -> list[Upload]:
    """The images of a request, each with a place in the queue. Raises Problem."""
    settings = service.settings
    limit = settings.max_body if most > 1 else settings.max_bytes + 2**16  # a form's own lines
    announced_length(request.headers, limit)
    kind = request.headers.get("content-type", "")
    async with body_of(request.headers, request.receive, service.budget, limit, settings.body_timeout) as body:
        found = uploads(kind, body, most, settings.max_bytes)
    service.reserve(len(found))
    return found


async def _predicted(
    request: "Request", service: Service, found: list[Upload], kind: str, opacity: float
) -> list[Outcome | Problem]:
    """What became of each image."""
    facts = {"request_id": request.state.request_id, "model": service.settings.name}
    deadline = monotonic() + service.settings.timeout
    work = (service.predict(each, kind, opacity, facts, deadline) for each in found)
    results = await unless_gone(asyncio.gather(*work, return_exceptions=True), request.receive)
    return [outcome_of(each) for each in results]


def _together(names: list[str], outcomes: list[Outcome | Problem], kind: str, request_id: str) -> Answer:
    """A batch's answer; where no image has a result, its first problem is the batch's."""
    if all(isinstance(each, Problem) for each in outcomes):
        raise next(each for each in outcomes if isinstance(each, Problem))
    if kind in ("labels", "overlay"):
        pictures, results = [], []
        for name, each in zip(names, outcomes, strict=True):
            if isinstance(each, Outcome):
                pictures.append((name, each.answer))
                results.append({"name": name, "status": 200, "milliseconds": each.milliseconds})
            else:
                results.append(each.body(request_id) | {"name": name})
        return packed(pictures, {"request_id": request_id, "results": results})
    joined = b",".join(_result(name, each, request_id) for name, each in zip(names, outcomes, strict=True))
    return Answer(b'{"request_id":"' + request_id.encode() + b'","results":[' + joined + b"]}", "application/json")


def _result(name: str, outcome: Outcome | Problem, request_id: str) -> bytes:
    if isinstance(outcome, Problem):
        return json.dumps(outcome.body(request_id) | {"name": name}).encode()
    return b'{"status":200,' + outcome.answer.content[1:]
