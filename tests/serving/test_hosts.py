"""The Host header: pages of other sites whose name resolves to this machine (DNS rebinding) are refused."""

import pytest

from fastfcn.prediction.predictor import Predictor
from fastfcn.serving import hosts
from fastfcn.serving.hosts import AllowedHosts
from fastfcn.serving.settings import Settings
from tests.helpers.running_service import RunningService, png, running
from tests.helpers.tiny import picture

LOCAL = ("localhost", "LocalHost:8000", "localhost.", "a.localhost:1", "127.0.0.1:8000", "10.0.0.3", "[::1]:80", "")
FOREIGN = (
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost"),
    *("localhost:8000@evil.example", "evil.example/localhost", "localhost evil", "[evil]", "127.0.0.1:x", "::1", ":"),
)


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/info", "/health", "/metrics", "/openapi.json", "/predict"])
def test_a_foreign_name_gets_nothing(service: RunningService, path: str):
    body = png(picture()) if path == "/predict" else None
    evil = f"evil.example:{service.port}"
    answer = service.ask(path, body, Host=evil, Origin=f"http://{evil}")
    assert (answer.status, answer.json["code"]) == (421, "foreign-host")
    assert "--allowed-host" in answer.json["hint"]
    assert service.ask(path, body, Host=f"localhost:{service.port}").status == 200


def test_names_of_a_local_service():
    allowed = AllowedHosts(Settings())
    assert [name for name in LOCAL if name not in allowed] == []
    assert [name for name in FOREIGN if name in allowed] == []


def test_names_given_by_the_user():
    allowed = AllowedHosts(Settings(hosts=("Seg.Example",), token="s3cret"))
    assert "seg.example:443" in allowed
    assert "localhost" in allowed
    assert "other.example" not in allowed  # although there is a token
    assert "other.example" in AllowedHosts(Settings(hosts=("*",)))
    assert "other.example" in AllowedHosts(Settings(token="s3cret"))


def test_other_machines_may_use_the_name_of_this_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: "box")
    monkeypatch.setattr(hosts.socket, "getfqdn", lambda: "box.lab.example")
    reachable = AllowedHosts(Settings(host="0.0.0.0"))
    assert "box:8000" in reachable
    assert "box.lab.example" in reachable
    assert "evil.example" not in reachable
    assert "box" not in AllowedHosts(Settings())


def test_the_option_of_the_command(predictor: Predictor):
    with running([predictor], Settings(hosts=("seg.example",)), warm=False) as service:
        assert service.ask("/health", Host="seg.example").status == 200
        assert service.ask("/health", Host="other.example").status == 421
