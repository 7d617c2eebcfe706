"""The Open Inference Protocol beside the service's own routes: the same labels, limits and errors."""

import json
from base64 import b64encode
from collections.abc import Iterator

import numpy as np
import pytest

from fastfcn.data.bands import BandReader
from fastfcn.data.description import Bands
from fastfcn.prediction.predictor import Predictor
from fastfcn.serving.decoding import Limits
from fastfcn.serving.inference_protocol import Answer, read_request, response
from fastfcn.serving.problems import Problem
from fastfcn.serving.settings import Settings
from tests.helpers.band_sets import NAMES
from tests.helpers.running_service import Answer as HttpAnswer
from tests.helpers.running_service import BlockedPredictor, RunningService, png, running
from tests.helpers.tiny import picture

INFER = "/v2/models/tiny/infer"
JSON = "application/json"
LENGTH = "Inference_Header_Content_Length"
LIMITS = Limits(20_000, 400, 4)


def tensor(images: np.ndarray, **more: object) -> dict:
    """An input of raw pixels."""
    data = {} if "parameters" in more else {"data": images.ravel().tolist()}
    return {"name": "image", "datatype": "UINT8", "shape": list(images.shape), **data, **more}


def files(*contents: bytes, **more: object) -> dict:
    """An input of encoded files."""
    data = {} if "parameters" in more else {"data": [b64encode(content).decode() for content in contents]}
    return {"name": "image", "datatype": "BYTES", "shape": [len(contents)], **data, **more}


def ask(service: RunningService, *inputs: dict, binary: bytes = b"", **more: object) -> HttpAnswer:
    text = json.dumps({"inputs": inputs, **more}).encode()
    headers = {LENGTH: str(len(text))} if binary else {}
    return service.ask(INFER, text + binary, JSON, **headers)


def labels_in(answer: HttpAnswer) -> np.ndarray:
    """The labels of a response, JSON or binary."""
    assert answer.status == 200, answer.body
    length = int(answer.headers.get("Inference-Header-Content-Length", len(answer.body)))
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert (output["name"], output["datatype"]) == ("labels", "UINT8")
    data = np.frombuffer(answer.body[length:], np.uint8) if length < len(answer.body) else np.array(output["data"])
    return data.reshape(output["shape"])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([picture(40, 56, seed) for seed in range(2)])


@pytest.fixture(scope="module")
def expected(images: np.ndarray, predictor: Predictor) -> np.ndarray:
    return predictor.labels(images)


def elements(*contents: bytes) -> bytes:
    """Binary elements of BYTES."""
    return b"".join(len(content).to_bytes(4, "little") + content for content in contents)


def test_every_form_of_the_images_has_the_same_labels(
    service: RunningService, images: np.ndarray, expected: np.ndarray
):
    encoded = [png(image) for image in images]
    raw, packed = images.tobytes(), elements(*encoded)
    for answer in (
        ask(service, tensor(images)),
        ask(service, tensor(images, data=images.tolist())),
        ask(service, files(*encoded)),
        ask(service, files(*encoded, shape=[2, 1])),
        ask(service, tensor(images, parameters={"binary_data_size": len(raw)}), binary=raw),
        ask(service, files(*encoded, parameters={"binary_data_size": len(packed)}), binary=packed),
        ask(service, tensor(images), outputs=[{"name": "labels", "parameters": {"binary_data": True}}]),
        ask(service, files(*encoded), parameters={"binary_data_output": True}),
    ):
        assert (labels_in(answer) == expected).mean() > 0.999


def test_the_answer_repeats_the_id_and_names_the_model(service: RunningService, images: np.ndarray):
    answer = ask(service, tensor(images[:1]), id="a-7", outputs=[{"name": "labels"}]).json
    assert {key: answer[key] for key in ("id", "model_name", "model_version")} == {
        "id": "a-7", "model_name": "tiny", "model_version": "1",
    }  # fmt: skip
    assert "id" not in ask(service, tensor(images[:1])).json


def test_health_and_metadata(service: RunningService, predictor: Predictor):
    assert service.ask("/v2").json["extensions"] == ["binary_tensor_data"]
    assert service.ask("/v2/health/live").json == {"live": True}
    assert service.ask("/v2/health/ready").json == {"ready": True}
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        metadata = service.ask(path).json
        assert (metadata["name"], metadata["versions"]) == ("tiny", ["1"])
        assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
        assert metadata["outputs"] == [{"name": "labels", "datatype": "UINT8", "shape": [-1, -1, -1]}]
        assert service.ask(f"{path}/ready").json == {"name": "tiny", "ready": True}


def test_other_models_and_versions_are_unknown(service: RunningService):
    for path in ("/v2/models/other", "/v2/models/tiny/versions/2", "/v2/models/other/ready"):
        answer = service.ask(path)
        assert (answer.status, answer.json["code"]) == (404, "unknown-model")
        assert answer.json["error"] == answer.json["detail"]
    assert service.ask("/v2/models/other/infer", b"{}", JSON).status == 404
    assert "error" not in service.ask("/nowhere").json


PIXELS = np.zeros((1, 8, 8, 3), np.uint8)
ONE_PIXEL = np.zeros((1, 1, 1, 3), np.uint8)


@pytest.mark.parametrize(
    ("request_body", "status", "code"),
    [
        (b"", 400, "wrong-tensor"),
        (b"[" * 100_000, 400, "wrong-tensor"),
        (b"[1]", 400, "wrong-tensor"),
        ({}, 400, "wrong-tensor"),
        ({"inputs": [1]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS), tensor(PIXELS)]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, name="picture")]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, datatype="FP32")]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, datatype=["UINT8"])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, shape=[1, 8, 8])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, shape=[1, 8, 9, 3])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, shape=[1, 8, 8, 4])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, shape=[1, -8, -8, 3])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, shape=[True, 8, 8, 3])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, shape="1883")]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(ONE_PIXEL, data=[1, 2, 256])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(ONE_PIXEL, data=[1, 2, -1])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(ONE_PIXEL, data=[1, 2, 2**70])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(ONE_PIXEL, data=[1, 2, 0.5])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(ONE_PIXEL, data=[1, [2, 3]])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(ONE_PIXEL, data=["a", 2, 3])]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(ONE_PIXEL, data={"a": 1})]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, parameters=7)]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, parameters={"binary_data_size": 192})]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS)], "id": "a" * 65}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS)], "id": 7}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS)], "parameters": 7}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS)], "outputs": [{"name": "logits"}]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS)], "outputs": [7]}, 400, "wrong-tensor"),
        ({"inputs": [tensor(PIXELS, shape=[1, 500, 500, 3])]}, 413, "too-many-pixels"),
        ({"inputs": [tensor(PIXELS, shape=[1, 2, 500, 3])]}, 413, "too-long-side"),
        ({"inputs": [tensor(PIXELS, shape=[5, 8, 8, 3])]}, 413, "too-many-images"),
        ({"inputs": [files(b"")]}, 422, "no-image"),
        ({"inputs": [files(b"nonsense")]}, 415, "unknown-format"),
        ({"inputs": [files(png(picture())[:2000])]}, 422, "broken-image"),
        ({"inputs": [files(png(picture(150, 150)))]}, 413, "too-many-pixels"),
        ({"inputs": [files(png(picture(8, 8)), png(picture(8, 9)))]}, 400, "wrong-tensor"),
        ({"inputs": [files(b"a", data=["no base64!"])]}, 400, "wrong-tensor"),
        ({"inputs": [files(b"a", data=[7])]}, 400, "wrong-tensor"),
        ({"inputs": [files(b"a", shape=[2])]}, 400, "wrong-tensor"),
        ({"inputs": [files(*[b"a"] * 5)]}, 413, "too-many-images"),
    ],
)  # fmt: skip
def test_problems(request_body: bytes | dict, status: int, code: str):
    body = request_body if isinstance(request_body, bytes) else json.dumps(request_body).encode()
    with pytest.raises(Problem) as refused:
        read_request(body, len(body), LIMITS)
    assert (refused.value.status, refused.value.code) == (status, code), refused.value.detail


def test_deeply_nested_data():
    nested = "[" * 900 + "1" + "]" * 900
    body = json.dumps({"inputs": [files(b"a", data="DATA")]}).replace('"DATA"', nested).encode()
    with pytest.raises(Problem) as refused:
        read_request(body, len(body), LIMITS)
    assert refused.value.code == "wrong-tensor"


@pytest.mark.parametrize("binary", [b"", b"\x09\0\0\0abc", b"\x03\0\0\0abcd", b"\x01"])
def test_binary_elements_that_are_cut_short(binary: bytes):
    body = json.dumps({"inputs": [files(b"a", parameters={"binary_data_size": len(binary)})]}).encode()
    with pytest.raises(Problem) as refused:
        read_request(body + binary, len(body), LIMITS)
    assert refused.value.code == "wrong-tensor"


def test_problems_over_http(service: RunningService, images: np.ndarray):
    """Those of `/predict`, from the process that decodes; `error` is what clients of the protocol read."""
    for answer, status, code in (
        (ask(service, tensor(images, shape=[2, 40, 56, 4])), 400, "wrong-tensor"),
        (ask(service, tensor(images[:1], shape=[1, 500, 500, 3])), 413, "too-many-pixels"),
        (ask(service, files(b"nonsense")), 415, "unknown-format"),
        (service.ask(INFER, bytes(2_000_000), JSON), 413, "too-many-bytes"),
        (service.ask(INFER, b"{}", JSON, **{LENGTH: "7"}), 400, "wrong-tensor"),
        (service.ask(INFER), 405, "wrong-method"),
    ):
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.json["error"] == answer.json["detail"]
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert ask(service, tensor(images)).status == 200


@pytest.fixture(scope="module")
def protected(predictor: Predictor) -> Iterator[RunningService]:
    with running([predictor], Settings(name="tiny", token="secret", hosts=("localhost", "127.0.0.1"))) as it:
        yield it


def test_the_token_protects_the_model_but_not_its_health(protected: RunningService, images: np.ndarray):
    body = json.dumps({"inputs": [tensor(images)]}).encode()
    for path, content in (("/v2/models/tiny", None), ("/v2/models/tiny/ready", None), (INFER, body)):
        refused = protected.ask(path, content, JSON)
        assert (refused.status, refused.json["code"]) == (401, "unauthorized")
        assert refused.json["error"]
        assert protected.ask(path, content, JSON, Authorization="Bearer secret").status == 200
        assert protected.ask(path, content, JSON, Authorization="Bearer secret", Host="evil.example").status == 421
    assert protected.ask("/v2/health/ready").status == protected.ask("/v2").status == 200


def test_the_queue_and_the_deadline_hold():
    blocked = BlockedPredictor()
    blocked.description = type("Description", (), {"class_names": ("a", "b")})()
    body = json.dumps({"inputs": [tensor(np.zeros((3, 8, 8, 3), np.uint8))]}).encode()
    with running([blocked], Settings(name="tiny", max_waiting=2, decode_timeout=60.0), warm=False) as it:
        full = it.ask(INFER, body, JSON)
        assert (full.status, full.json["code"]) == (503, "busy")
        assert full.headers["Retry-After"]
        assert it.service.batcher.waiting == 0
    with running([blocked], Settings(name="tiny", timeout=1.0), warm=False) as it:
        try:
            late = ask(it, tensor(np.zeros((1, 8, 8, 3), np.uint8)))
            assert (late.status, late.json["code"]) == (504, "late")
            assert it.ask("/v2/health/ready").status == 503  # never warmed up
        finally:
            blocked.free.set()


def test_metrics_have_few_paths(service: RunningService, images: np.ndarray):
    ask(service, tensor(images))
    service.ask("/v2/models/tiny/else")
    text = service.ask("/metrics").body.decode()
    assert 'path="/v2/models/tiny/infer"' in text
    assert "tiny/else" not in text


def test_tensors_of_bands():
    reader = BandReader(Bands(names=NAMES, dtype="uint16"), NAMES, [0.0] * 5, [1.0] * 5)
    pixels = np.random.default_rng(0).normal(0, 1, (1, 6, 7, reader.channels)).astype(np.float32)
    request = {"name": "image", "datatype": "FP32", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    body = json.dumps({"inputs": [request]}).encode()
    assert np.array_equal(read_request(body, len(body), LIMITS, reader)[0], pixels)
    body = json.dumps({"inputs": [request | {"data": [float("inf")] * pixels.size}]}).encode()
    with pytest.raises(Problem, match="must be finite"):
        read_request(body, len(body), LIMITS, reader)


@pytest.mark.parametrize("classes", [1, 7, 100, 254])
def test_labels_in_json_and_binary(classes: int):
    labels = np.random.default_rng(0).integers(0, classes, (2, 5, 7))
    content, headers = response(labels, classes, "n", Answer())
    assert np.array_equal(json.loads(content)["outputs"][0]["data"], labels.ravel())
    content, headers = response(labels, classes, "n", Answer(binary=True))
    data = content[int(headers["Inference-Header-Content-Length"]) :]
    assert np.array_equal(np.frombuffer(data, np.uint8), labels.ravel())


def test_triton_client(service: RunningService, images: np.ndarray, expected: np.ndarray):
    """NVIDIA's client, which sends binary tensors unless it is told otherwise."""
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    client = http.InferenceServerClient(f"127.0.0.1:{service.port}")
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny", "1")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        assert client.get_model_metadata("tiny")["outputs"][0]["name"] == "labels"
        encoded = np.array([png(image) for image in images], np.object_)
        for data, datatype, binary in ((images, "UINT8", True), (images, "UINT8", False), (encoded, "BYTES", True)):
            source = http.InferInput("image", list(data.shape), datatype)
            source.set_data_from_numpy(data, binary_data=binary)
            for outputs in (None, [http.InferRequestedOutput("labels", binary_data=binary)]):
                result = client.infer("tiny", [source], outputs=outputs, request_id="r-1")
                assert (result.as_numpy("labels") == expected).mean() > 0.999
                assert result.get_response()["id"] == "r-1"
        source = http.InferInput("image", [1, 2, 2, 3], "FP32")
        source.set_data_from_numpy(np.zeros((1, 2, 2, 3), np.float32))
        with pytest.raises(http.InferenceServerException, match="must be UINT8"):
            client.infer("tiny", [source])
        with pytest.raises(http.InferenceServerException, match="no such version of a model 'other'"):
            client.infer("other", [source])
    finally:
        client.close()
