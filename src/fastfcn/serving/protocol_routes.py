"""Routes of the Open Inference Protocol, version 2: `/v2`, `/v2/health/...` and `/v2/models/NAME/...`."""

from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastfcn.serving import inference_protocol, openapi, problems
from fastfcn.serving.service import Service, unless_disconnected
from fastfcn.serving.uploads import limited_body

if TYPE_CHECKING:
    from fastapi import FastAPI

NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Starting up or shutting down."}}


def add_protocol_routes(app: "FastAPI", service: Service) -> None:
    """Add all routes to `app`."""
    from fastapi import Request, Response

    settings = service.settings

    def check(name: str, model_version: str = inference_protocol.MODEL_VERSION) -> None:
        if name != settings.name or model_version != inference_protocol.MODEL_VERSION:
            raise problems.unknown_model(name, settings.name)

    @app.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        """The server and the extensions of the protocol that it supports."""
        return {"name": "fastfcn", "version": version("fastfcn"), "extensions": inference_protocol.EXTENSIONS}

    @app.get("/v2/health/live")
    async def server_live() -> dict[str, bool]:
        """Liveness: the process responds."""
        return {"live": True}

    @app.get("/v2/health/ready", responses=NOT_READY)
    async def server_ready() -> dict[str, bool]:
        """Readiness: images are accepted."""
        service.check_ready()
        return {"ready": True}

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{model_version}", include_in_schema=False)
    async def model_metadata(name: str, model_version: str = inference_protocol.MODEL_VERSION) -> dict[str, Any]:
        """Inputs and outputs of the model."""
        check(name, model_version)
        return inference_protocol.model_metadata(name, service.bands)

    @app.get("/v2/models/{name}/ready", responses=NOT_READY)
    @app.get("/v2/models/{name}/versions/{model_version}/ready", include_in_schema=False)
    async def model_ready(name: str, model_version: str = inference_protocol.MODEL_VERSION) -> dict[str, Any]:
        """Readiness of the model."""
        check(name, model_version)
        service.check_ready()
        return {"name": name, "ready": True}

    infer_schema: dict[str, Any] = {"responses": openapi.infer_responses(), "openapi_extra": openapi.infer_request()}

    @app.post("/v2/models/{name}/infer", **infer_schema)
    @app.post("/v2/models/{name}/versions/{model_version}/infer", include_in_schema=False)
    async def infer(
        request: Request, name: str, model_version: str = inference_protocol.MODEL_VERSION
    ) -> Response:  # fmt: skip
        """Labels of a tensor of images, or of encoded images."""
        check(name, model_version)
        headers, receive, limit = request.headers, request.receive, settings.max_body
        async with limited_body(headers, receive, service.budget, limit, settings.body_timeout) as chunks:
            body = b"".join([chunk async for chunk in chunks])
        json_bytes = inference_protocol.json_length(headers.get(inference_protocol.LENGTH_HEADER), len(body))
        service.reserve(1)
        work = service.infer(body, json_bytes, monotonic() + settings.timeout)
        content, more, fields = await unless_disconnected(work, receive)
        request.state.log_fields |= fields
        return Response(content, headers=more)
