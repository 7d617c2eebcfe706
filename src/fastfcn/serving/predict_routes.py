"""`POST /predict` and `POST /predict/batch`."""

import asyncio
import json
from time import monotonic
from typing import TYPE_CHECKING

from fastfcn.errors import MissingExtraError
from fastfcn.serving import openapi
from fastfcn.serving.formats import Payload, choose_format, zip_archive
from fastfcn.serving.problems import Problem
from fastfcn.serving.service import Outcome, Service, outcome_of, unless_disconnected
from fastfcn.serving.uploads import Upload, limited_body, read_uploads

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

FORMAT_HELP = "runs (JSON), polygons (GeoJSON), labels (PNG of class ids) or overlay (JPEG). Default: from Accept."
FORM_BYTES = 2**16  # boundaries and headers of a form, besides its image


def add_predict_routes(app: "FastAPI", service: Service) -> None:
    """Add both routes to `app`."""
    try:
        from fastapi import Query, Request, Response
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve", "The service") from error

    format_query = Query(None, alias="format", description=FORMAT_HELP, examples=["runs"], max_length=30)
    opacity_query = Query(0.5, ge=0, le=1, description="Opacity of the class colors in an overlay, 0 to 1.")

    @app.post("/predict", responses=openapi.responses(False), openapi_extra=openapi.request_body(False))
    async def predict(request: Request, name: str | None = format_query, opacity: float = opacity_query) -> Response:
        """Segment one image, sent as the body or as the form field `image`."""
        format_name = choose_format(name, request.headers.get("accept", ""))
        uploads = await _uploads(request, service, 1)
        outcome = (await _outcomes(request, service, uploads, format_name, opacity))[0]
        if isinstance(outcome, Problem):
            raise outcome
        size = "{}x{}".format(*outcome.size)
        request.state.log_fields |= outcome.milliseconds | {"size": size, "format": format_name}
        timing = ", ".join(f"{stage};dur={value}" for stage, value in outcome.milliseconds.items())
        payload = outcome.payload
        return Response(payload.content, media_type=payload.media_type, headers={"Server-Timing": timing})

    @app.post("/predict/batch", responses=openapi.responses(True), openapi_extra=openapi.request_body(True))
    async def predict_batch(
        request: Request, name: str | None = format_query, opacity: float = opacity_query
    ) -> Response:
        """Segment the files of a form. Returns JSON with `results`, or a ZIP archive for the image formats.

        An image with a problem has the problem in its place; the others are not affected.
        """
        accept = request.headers.get("accept", "").replace("application/zip", "image/png")
        format_name = choose_format(name, accept)
        uploads = await _uploads(request, service, service.settings.max_images)
        names = [upload.name for upload in uploads]
        outcomes = await _outcomes(request, service, uploads, format_name, opacity)
        request.state.log_fields |= {"images": len(outcomes), "format": format_name}
        payload = _batch_payload(names, outcomes, format_name, request.state.request_id)
        return Response(payload.content, media_type=payload.media_type)


async def _uploads(request: "Request", service: Service, max_images: int) -> list[Upload]:
    """The images of a request, each with a reserved place in the queue. Raises Problem."""
    settings = service.settings
    limit = settings.max_body if max_images > 1 else settings.max_bytes + FORM_BYTES
    headers, receive = request.headers, request.receive
    async with limited_body(headers, receive, service.budget, limit, settings.body_timeout) as chunks:
        uploads = await read_uploads(headers, chunks, max_images, settings.max_bytes)
    service.reserve(len(uploads))
    return uploads


async def _outcomes(
    request: "Request", service: Service, uploads: list[Upload], format_name: str, opacity: float
) -> list[Outcome | Problem]:
    """The result or the problem of each image."""
    details = {"request_id": request.state.request_id, "model": service.settings.name}
    deadline = monotonic() + service.settings.timeout
    work = (service.predict(upload, format_name, opacity, details, deadline) for upload in uploads)
    results = await unless_disconnected(asyncio.gather(*work, return_exceptions=True), request.receive)
    return [outcome_of(result) for result in results]


def _batch_payload(
    names: list[str], outcomes: list[Outcome | Problem], format_name: str, request_id: str
) -> Payload:  # fmt: skip
    """The body of a batch's response. If all images have problems, the first problem is raised."""
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    if len(problems) == len(outcomes):
        raise problems[0]
    if format_name in ("labels", "overlay"):
        images, results = [], []
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, Problem):
                results.append(outcome.body(request_id) | {"name": name})
            else:
                images.append((name, outcome.payload))
                results.append({"name": name, "status": 200, "milliseconds": outcome.milliseconds})
        return zip_archive(images, {"request_id": request_id, "results": results})
    results = [_json_result(name, outcome, request_id) for name, outcome in zip(names, outcomes, strict=True)]
    content = b'{"request_id":"' + request_id.encode() + b'","results":[' + b",".join(results) + b"]}"
    return Payload(content, "application/json")


def _json_result(name: str, outcome: Outcome | Problem, request_id: str) -> bytes:
    if isinstance(outcome, Problem):
        return json.dumps(outcome.body(request_id) | {"name": name}).encode()
    return b'{"status":200,' + outcome.payload.content[1:]
