"""Error responses of the service (RFC 9457, application/problem+json)."""

from http import HTTPStatus

from fastfcn.errors import UserError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 (the word of RFC 9457)
    """An error response: HTTP `status`, a stable `code` for programs, `detail` and `hint` for people.

    `retry_after`: seconds after which the client may try again.
    """

    def __init__(self, status: int, code: str, detail: str, hint: str = "", retry_after: int | None = None):
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.retry_after = retry_after

    def body(self, request_id: str, path: str = "") -> dict:
        """The JSON body of the response to a request for `path`; the Open Inference Protocol reads its `error`."""
        title = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "Error"
        body = {"type": "about:blank", "title": title, "status": self.status, "code": self.code, "detail": self.detail}
        body |= {"hint": self.hint} if self.hint else {}
        body |= {"retry_after": self.retry_after} if self.retry_after is not None else {}
        body |= {"error": self.detail} if path.startswith("/v2") else {}
        return body | {"request_id": request_id}

    @property
    def headers(self) -> dict[str, str]:
        """Additional headers of the response."""
        extra = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return extra | ({"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else {})


def busy(retry_after: int) -> Problem:
    return Problem(503, "busy", "The queue is full.",
                   f"Retry after {retry_after} s.", retry_after)  # fmt: skip


def late(seconds: float) -> Problem:
    return Problem(504, "late", f"No result within {seconds:g} s.", "Retry later, or send smaller images.")


def slow_upload(seconds: float) -> Problem:
    return Problem(408, "slow", f"The upload took longer than {seconds:g} s.", "Send a smaller file.")


def too_many_bytes(limit: int) -> Problem:
    return Problem(413, "too-many-bytes", f"The upload is larger than {limit / 2**20:.3g} MiB.",
                   "Send a smaller image, or start the service with a higher --max-mib.")  # fmt: skip


def too_many_pixels(size: tuple[int, int], limit: int) -> Problem:
    height, width = size
    return Problem(413, "too-many-pixels",
                   f"The image has {width} x {height} pixels; the limit is {limit / 1e6:.3g} million.",
                   "Send a smaller image, or start the service with a higher --max-megapixels.")  # fmt: skip


def too_long_side(size: tuple[int, int], limit: int) -> Problem:
    height, width = size
    return Problem(413, "too-long-side",
                   f"The image has {width} x {height} pixels; a side may have at most {limit}.",
                   "Cut it into several images, or start the service with a higher --max-side.")  # fmt: skip


def too_thin(size: tuple[int, int]) -> Problem:
    height, width = size
    return Problem(413, "too-much-memory",
                   f"An image of {width} x {height} pixels needs much more memory than others of as many pixels.",
                   "Cut it into several images, or start the service with a higher --max-megapixels.")  # fmt: skip


def slow_decoding(seconds: float) -> Problem:
    return Problem(413, "slow-image", f"The image could not be decoded within {seconds:.3g} s.",
                   "Save it in a simpler form, such as a baseline JPEG, or send a smaller image.")  # fmt: skip


def too_many_images(limit: int) -> Problem:
    if limit == 1:
        return Problem(
            413, "too-many-images", "The form contains more than one file.", "Send several images to /predict/batch."
        )
    return Problem(413, "too-many-images", f"A batch may contain at most {limit} images.", "Send several batches.")


def out_of_memory() -> Problem:
    return Problem(413, "out-of-memory", "The image needs more memory than the device has.", "Send a smaller image.")


def too_detailed(limit: int) -> Problem:
    return Problem(413, "too-detailed", f"The result has more than {limit:,} runs or polygon edges.",
                   "Request the label image (format=labels), or send a smaller image.")  # fmt: skip


def unknown_format(file_type: str, supported: str) -> Problem:
    return Problem(415, "unknown-format", f"Unsupported file type: {file_type}.",
                   f"Send {supported}.")  # fmt: skip


def wrong_content_type(content_type: str) -> Problem:
    shown = content_type[:60] or "missing"
    return Problem(415, "wrong-content-type", f"Unsupported content type: {shown!r}.",
                   "Send the image itself (-H 'Content-Type: image/jpeg' --data-binary @street.jpg) or a form "
                   "(-F image=@street.jpg).")  # fmt: skip


def broken_image(reason: str) -> Problem:
    return Problem(422, "broken-image", f"The image cannot be decoded: {reason}.", "Check the file, or save it again.")


def no_image() -> Problem:
    return Problem(
        422,
        "no-image",
        "The request contains no image.",
        "Send it as the body, or as a file in the form field 'image'.",
    )


def broken_form() -> Problem:
    return Problem(400, "broken-form", "The multipart/form-data body is malformed.", "Check how it is built.")


def wrong_tensor(reason: str) -> Problem:
    return Problem(400, "wrong-tensor", f"{reason[:1].upper()}{reason[1:]}.",
                   "GET /v2/models/NAME describes the input.")  # fmt: skip


def unknown_model(name: str, known: str) -> Problem:
    return Problem(404, "unknown-model", f"There is no such version of a model {name[:60]!r}.",
                   f"The model is called {known!r}, its version is 1.")  # fmt: skip


def wrong_parameter(detail: str) -> Problem:
    return Problem(422, "wrong-parameter", detail, "See /openapi.json for the parameters.")


def not_acceptable(accept: str, available: str) -> Problem:
    return Problem(406, "not-acceptable", f"No response of type {accept[:60]!r} is available.",
                   f"Accept one of {available}, or use ?format=.")  # fmt: skip


def unauthorized() -> Problem:
    return Problem(
        401, "unauthorized", "A valid bearer token is required.", "Send the header Authorization: Bearer TOKEN."
    )


def foreign_origin() -> Problem:
    return Problem(403, "foreign-origin", "Requests from other origins are not allowed.",
                   "Start the service with --allow-origin ORIGIN.")  # fmt: skip


def foreign_host(host: str) -> Problem:
    return Problem(421, "foreign-host", f"The service has no name {host[:60]!r}.",
                   "Start the service with --allowed-host NAME, or use its address.")  # fmt: skip


def internal() -> Problem:
    return Problem(500, "internal", "Internal server error.",
                   "The log of the service has the details under the request id.")  # fmt: skip


def from_status(status: int) -> Problem:
    """The problem for an HTTP status raised by the router."""
    match status:
        case 404:
            return Problem(404, "not-found", "Not found.", "See /openapi.json.")
        case 405:
            return Problem(405, "wrong-method", "Method not allowed.", "See /openapi.json.")
        case _:
            return Problem(status, "refused", "The request was refused.", "See /openapi.json.")


def reason_of(error: Exception) -> str:
    """The message of an exception in one short line."""
    text = error.message if isinstance(error, UserError) else str(error)
    return (text.splitlines() or [""])[0][:120].rstrip(".") or type(error).__name__
