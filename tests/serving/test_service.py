"""The HTTP API: response formats, problems, information routes, metrics and logs."""

import io
import json
import logging
import socket
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.client import labels_from_runs
from fastfcn.data.description import load_description
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.predictor import Predictor
from fastfcn.serving.monitoring import JsonFormatter
from fastfcn.serving.serve import make_service
from fastfcn.serving.settings import Settings
from fastfcn.serving.web_routes import example_count
from tests.helpers.running_service import RunningService, form, png
from tests.helpers.tiny import picture


def labels_of(result: dict, predictor: Predictor) -> np.ndarray:
    """The segmentation map in the runs of `result`, as the client reads it."""
    return labels_from_runs(result, (64, 96), len(predictor.classes))


def says(predictor: Predictor, seed: int = 0) -> Prediction:
    return predictor(picture(seed=seed))


def test_every_format_matches_the_predictor(service: RunningService, predictor: Predictor):
    expected, image = says(predictor), png(picture())
    runs = service.ask("/predict", image).json
    assert np.array_equal(labels_of(runs, predictor), expected.labels)
    assert {entry["name"]: entry["share"] for entry in runs["classes"]} == pytest.approx(expected.shares())
    assert sum(entry["pixels"] for entry in runs["classes"]) == 64 * 96
    labels = service.ask("/predict", image, Accept="image/png")
    assert labels.headers["Content-Type"] == "image/png"
    assert np.array_equal(np.array(Image.open(io.BytesIO(labels.body))), np.array(expected.label_image()))
    overlay = service.ask("/predict?opacity=0.25", image, Accept="text/html;q=0.1, image/jpeg")
    drawn = np.array(Image.open(io.BytesIO(overlay.body))).astype(int)
    assert np.abs(drawn - expected.overlay(0.25)).mean() < 12
    polygons = service.ask("/predict", image, Accept="application/geo+json").json
    assert sum(entry["properties"]["pixels"] for entry in polygons["features"]) == 64 * 96
    assert {entry["properties"]["class"] for entry in polygons["features"]} == set(expected.shares())


def test_an_image_in_a_form(service: RunningService, predictor: Predictor):
    body, kind = form(("a/b\\street.png", png(picture())), field="image")
    answer = service.ask("/predict", body, kind).json
    assert answer["name"] == "street.png"
    assert np.array_equal(labels_of(answer, predictor), says(predictor).labels)


def test_a_batch_continues_after_a_broken_image(service: RunningService, predictor: Predictor):
    files = [("a.png", png(picture())), ("b.txt", b"no image"), ("a.png", png(picture(seed=1)))]
    results = service.ask("/predict/batch", *form(*files)).json["results"]
    assert [result["status"] for result in results] == [200, 415, 200]
    assert [entry["name"] for entry in results] == ["a.png", "b.txt", "a.png"]
    for result, seed in ((results[0], 0), (results[2], 1)):
        assert (labels_of(result, predictor) == says(predictor, seed).labels).mean() > 0.999
    packed = service.ask("/predict/batch?format=labels", *form(*files))
    assert packed.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(packed.body)) as archive:
        assert sorted(archive.namelist()) == ["a.png", "a_2.png", "results.json"]
        assert [result["status"] for result in json.loads(archive.read("results.json"))["results"]] == [200, 415, 200]
    assert service.ask("/predict/batch", *form(("b.txt", b"no image"))).status == 415


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "code"),
    [
        ("/predict", b"", "image/png", 422, "no-image"),
        ("/predict", b"nonsense", "image/png", 415, "unknown-format"),
        ("/predict", b"GIF89a", "image/gif", 415, "unknown-format"),
        ("/predict", png(picture())[:2000], "image/png", 422, "broken-image"),
        ("/predict", png(picture()), "text/html", 415, "wrong-content-type"),
        ("/predict", png(picture()), "application/x-www-form-urlencoded", 415, "wrong-content-type"),
        ("/predict", png(picture(500, 500)), "image/png", 413, "too-many-pixels"),
        ("/predict", bytes(400_000), "image/png", 413, "too-many-bytes"),
        ("/predict", b"--x", "multipart/form-data; boundary=edge", 400, "broken-form"),
        ("/predict", b"x", "multipart/form-data", 400, "broken-form"),
        ("/predict", *form(("a", b"x"), ("b", b"x")), 413, "too-many-images"),
        ("/predict/batch", *form(*[("a", b"x")] * 5), 413, "too-many-images"),
        ("/predict/batch", *form(), 422, "no-image"),
        ("/predict?format=jpeg", png(picture()), "image/png", 422, "wrong-parameter"),
        ("/predict?opacity=2", png(picture()), "image/png", 422, "wrong-parameter"),
        ("/nowhere", None, "", 404, "not-found"),
        ("/page/..%2fapp.py", None, "", 404, "not-found"),
        ("/examples/9.jpg", None, "", 404, "not-found"),
        ("/predict", None, "", 405, "wrong-method"),
    ],
)
def test_problems(service: RunningService, path: str, body: bytes, kind: str, status: int, code: str):
    answer = service.ask(path, body, kind, X_Request_ID="mine-1")
    assert answer.headers["Content-Type"] == "application/problem+json"
    body_json = answer.json
    assert (answer.status, body_json["status"], body_json["code"]) == (status, status, code)
    assert body_json["detail"].endswith(".")
    assert body_json["request_id"] == answer.headers["X-Request-ID"] == "mine-1"
    assert service.ask("/predict", png(picture())).status == 200  # and it continues


def test_a_form_with_text_fields_and_a_large_file(service: RunningService):
    """Other fields are skipped, up to a limit; a file in many chunks arrives completely and stays in memory."""
    field = b'--edge\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    body, kind = form(("a.bmp", png(picture(250, 350), "BMP")), field="image")
    assert service.ask("/predict", 16 * field + body, kind).status == 200
    refused = service.ask("/predict", 17 * field + body, kind)
    assert (refused.status, refused.json["code"]) == (400, "broken-form")
    truncated = service.ask("/predict", body[:-8], kind)
    assert (truncated.status, truncated.json["code"]) == (400, "broken-form")


def test_an_unavailable_media_type(service: RunningService):
    assert service.ask("/predict", png(picture()), Accept="text/html").json["code"] == "not-acceptable"


def test_a_large_content_length_is_refused_before_the_body(service: RunningService):
    with socket.create_connection(("127.0.0.1", service.port), timeout=300) as line:
        line.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 999999999\r\n\r\n"
        )
        assert b" 413 " in line.recv(4096)


@pytest.mark.parametrize(("dataset", "count"), [("streets", 4), ("cityscapes", 4), ("voc", 0)])
def test_examples_are_offered_to_models_that_know_streets(dataset: str, count: int):
    assert example_count(load_description(dataset).class_names) == count


def test_information_routes(service: RunningService, predictor: Predictor):
    info = service.ask("/info").json
    assert [entry["name"] for entry in info["classes"]] == list(predictor.classes)
    assert (info["limits"]["pixels"], info["limits"]["images"]) == (200_000, 4)
    assert service.ask("/health").json == {"status": "alive"}
    assert service.ask("/ready").json == {"status": "ready"}
    document = service.ask("/openapi.json").json
    own = {path for path in document["paths"] if not path.startswith("/v2")}
    assert own == {"/predict", "/predict/batch", "/info", "/health", "/ready", "/metrics"}
    model = "/v2/models/{name}"
    protocol = {"/v2", "/v2/health/live", "/v2/health/ready", model, f"{model}/ready", f"{model}/infer"}
    assert set(document["paths"]) - own == protocol
    answers = document["paths"]["/predict"]["post"]["responses"]
    assert {"200", "413", "415", "422", "503", "504"} <= set(answers)
    assert all(
        "example" in content or "schema" in content
        for entry in answers.values()
        for content in entry["content"].values()
    )


def test_metrics(service: RunningService):
    def figure(name: str) -> float:
        lines = service.ask("/metrics").body.decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))

    images, refused = "fastfcn_images_total", 'fastfcn_problems_total{code="unknown-format"}'
    service.ask("/predict", b"nonsense")
    before = figure(images), figure(refused)
    service.ask("/predict", png(picture()))
    service.ask("/predict", b"nonsense")
    assert (figure(images), figure(refused)) == (before[0] + 1, before[1] + 1)
    assert figure("fastfcn_waiting_images") == figure("fastfcn_upload_bytes") == 0


def test_request_logs(service: RunningService):
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonFormatter().format(record))

    logger, handler = logging.getLogger("fastfcn.serving.serve"), Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        request_ids = ["abc-1"]
        service.ask("/predict", png(picture()), X_Request_ID="abc-1")
        request_ids.append(service.ask("/predict", b"nonsense", X_Request_ID="no good\tid").headers["X-Request-ID"])
        body_json: dict[str, dict] = {}
        while not body_json.keys() >= set(request_ids):  # they are written after the response
            time.sleep(0.01)
            body_json = {line["id"]: line for line in map(json.loads, lines)}
    finally:
        logger.removeHandler(handler)
    first, second = (body_json[request_id] for request_id in request_ids)
    assert (first["event"], first["id"], first["status"], first["size"]) == ("request", "abc-1", 200, "64x96")
    assert first["infer"] > 0
    assert (second["status"], second["problem"], len(second["id"])) == (415, "unknown-format", 32)


def test_the_precision_of_a_service(weights_file: Path, monkeypatch):
    monkeypatch.setattr("fastfcn.prediction.predictor.fastest_precision", lambda precision, *_: precision)
    for precision in ("32-true", "bf16-mixed"):
        served = make_service(weights_file, Settings(name="tiny"), ("cpu",), 1, precision=precision)
        try:
            assert served.model_info["precision"] == precision
        finally:
            served.close()
