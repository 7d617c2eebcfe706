"""The ASGI application: routes, error responses, CORS and the OpenAPI document, wrapped in the request middleware."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastfcn.errors import MissingExtraError
from fastfcn.serving import openapi, problems
from fastfcn.serving.decoding import BAND_FORMAT_NAMES, FORMAT_NAMES, MEDIA_TYPES
from fastfcn.serving.formats import RESPONSE_TYPES
from fastfcn.serving.inference_protocol import LENGTH_HEADER
from fastfcn.serving.middleware import CLIENT_CLOSED, RequestMiddleware
from fastfcn.serving.predict_routes import add_predict_routes
from fastfcn.serving.problems import MEDIA_TYPE, Problem
from fastfcn.serving.protocol_routes import add_protocol_routes
from fastfcn.serving.service import Service
from fastfcn.serving.uploads import ClientGoneError
from fastfcn.serving.web_routes import add_web_routes, example_count

if TYPE_CHECKING:
    from fastapi import FastAPI

DESCRIPTION = """Semantic segmentation of images. Errors are `application/problem+json` (RFC 9457) with a stable `code`,
a `detail` and a `hint`. If the service requires a token, send `Authorization: Bearer TOKEN`."""


def create_app(service: Service, started: Callable[[], None] = lambda: None) -> RequestMiddleware:
    """The ASGI application of `service`; `started` is called at startup. Raises MissingExtraError."""
    try:
        from fastapi import FastAPI
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve", "The service") from error

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        started()
        yield
        service.close()

    # No /docs: these pages load scripts from a CDN.
    app = FastAPI(
        title="fastfcn",
        version=version("fastfcn"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    add_state_routes(app, service)
    add_predict_routes(app, service)
    add_protocol_routes(app, service)
    add_web_routes(app)
    add_error_handlers(app)
    _allow_origins(app, service.settings.origins)
    _extend_openapi(app, bool(service.settings.token))
    return RequestMiddleware(app, service)


def add_state_routes(app: "FastAPI", service: Service) -> None:
    """Add `GET /info`, `/health`, `/ready` and `/metrics`."""
    from fastapi import Response

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """The model, its classes, and the limits of the service."""
        return information(service)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Liveness: the process responds."""
        return {"status": "alive"}

    @app.get("/ready", responses={503: {"description": "Starting up or shutting down."}})
    async def ready() -> dict[str, str]:
        """Readiness: images are accepted."""
        service.check_ready()
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics in Prometheus's text format."""
        content, media = service.metrics.expose()
        return Response(content, headers={"Content-Type": media})


def information(service: Service) -> dict[str, Any]:
    """The response of `GET /info`."""
    settings, description = service.settings, service.description
    classes = [
        {"index": index, "name": label.name, "color": label.color, "ids": label.ids}
        for index, label in enumerate(description.classes)
    ]
    bands = {"bands": service.bands.as_json()} if service.bands else {}
    limits = {
        "bytes": settings.max_bytes,
        "pixels": settings.max_pixels,
        "side": settings.max_side,
        "images": settings.max_images,
        "batch_bytes": settings.max_body,
        "seconds": settings.timeout,
        "formats": BAND_FORMAT_NAMES if service.bands else FORMAT_NAMES,
        "media_types": MEDIA_TYPES,
    }
    return {
        "version": version("fastfcn"),
        "model": {"name": settings.name} | service.model_info | bands,
        "classes": classes,
        "description": description.model_dump(mode="json", exclude={"names"}),
        "response_types": RESPONSE_TYPES,
        "limits": limits,
        "examples": example_count(service.description.class_names),
    }


def add_error_handlers(app: "FastAPI") -> None:
    """Answer every error with application/problem+json and the request id."""
    from fastapi import Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    async def respond(request: Request, error: Exception) -> Response:
        match error:
            case Problem():
                problem = error
            case ClientGoneError():
                return Response(status_code=CLIENT_CLOSED)
            case HTTPException():
                problem = problems.from_status(error.status_code)
            case RequestValidationError():
                first = error.errors()[0]
                problem = problems.wrong_parameter(f"{first['loc'][-1]}: {first['msg']}.")
            case _:
                problem = problems.internal()
        request.state.problem = problem.code
        body = problem.body(request.state.request_id, request.url.path)
        return JSONResponse(body, problem.status, problem.headers, media_type=MEDIA_TYPE)

    for kind in (Problem, ClientGoneError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, respond)


def _allow_origins(app: "FastAPI", origins: tuple[str, ...]) -> None:
    if not origins:
        return
    from fastapi.middleware.cors import CORSMiddleware

    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-ID", LENGTH_HEADER],
        expose_headers=["X-Request-ID", "Retry-After", "Server-Timing", LENGTH_HEADER],
    )


def _extend_openapi(app: "FastAPI", needs_token: bool) -> None:
    """Add the problem schema and, with a token, the security scheme to the OpenAPI document."""
    generate = app.openapi

    def openapi_document() -> dict[str, Any]:
        document = generate()
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = openapi.PROBLEM_SCHEMA
        if needs_token:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
        return document

    app.openapi = openapi_document  # type: ignore[method-assign]
