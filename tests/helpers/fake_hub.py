"""A local server with the part of the Hugging Face Hub's API that pushing and downloading a model needs.

After https://huggingface.co/docs/hub/api and the requests that huggingface_hub makes.
"""

import base64
import hashlib
import json
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.file_server import running

TOKEN = "hf_test"
COMMIT = "a" * 40


class FakeHub(ThreadingHTTPServer):
    """Holds models: name -> {"private": bool, "files": {path: content}}; records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, dict[str, Any]] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.messages: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_POST(self) -> None:
        body = self._begin()
        parts = self.path.strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Invalid username or password.")
        match parts:
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                if not name.startswith("me/"):
                    return self._refuse(403, "You don't have the rights to create a model there")
                private = asked.get("private") or asked.get("visibility") == "private"
                there = name in self.server.models
                self.server.models.setdefault(name, {"private": bool(private), "files": {}})
                return self._json({"url": f"{self.server.address}/{name}"}, 409 if there else 200)
            case ["api", "models", _, _, "preupload", _]:
                files = json.loads(body)["files"]
                modes = [{"path": file["path"], "uploadMode": _mode(file["path"])} for file in files]
                return self._json({"files": [mode | {"shouldIgnore": False} for mode in modes]})
            case [_, _, "info", "lfs", "objects", "batch"]:
                objects = json.loads(body)["objects"]
                actions = [{**file, "actions": {"upload": {"href": f"{self.server.address}/store/{file['oid']}"}}}
                           for file in objects]  # fmt: skip
                return self._json({"transfer": "basic", "objects": actions})
            case ["api", "models", user, name, "commit", _]:
                self._commit(self.server.models[f"{user}/{name}"]["files"], body)
                url = f"{self.server.address}/{user}/{name}/commit/{COMMIT}"
                return self._json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        return self._json({})

    def do_PUT(self) -> None:
        self.server.stored[self.path.rpartition("/")[2]] = self._begin()
        self._json({})

    def do_GET(self) -> None:
        self._begin()
        parts = self.path.partition("?")[0].strip("/").split("/")
        match parts:
            case ["api", "models", user, name, *_]:
                model = self._model(f"{user}/{name}")
                if model:
                    details = {"id": f"{user}/{name}", "private": model["private"], "sha": COMMIT, "siblings": []}
                    self._json(details | {"tags": [], "downloads": 0, "likes": 0})
            case [user, name, "resolve", revision, path]:
                model = self._model(f"{user}/{name}")
                if model and revision not in ("main", COMMIT, "v1"):
                    self._refuse(404, "Invalid rev", "RevisionNotFound")
                elif model and path not in model["files"]:
                    self._refuse(404, "Entry not found", "EntryNotFound")
                elif model:
                    self._send(model["files"][path])
            case _:
                self._refuse(404, "Not found")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _model(self, name: str) -> dict[str, Any] | None:
        model = self.server.models.get(name)
        if model is None or (model["private"] and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self._refuse(401 if TOKEN not in (self.headers.get("Authorization") or "") else 404,
                         "Repository Not Found", "RepoNotFound")  # fmt: skip
            return None
        return model

    def _commit(self, files: dict[str, bytes], body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    self.server.messages.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.stored[value["oid"]]

    def _begin(self) -> bytes:
        self.server.requests.append(f"{self.command} {self.path}")
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _json(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, message: str, code: str = "") -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error-Message", message)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


def fake_hub() -> AbstractContextManager[FakeHub]:
    """A running server; it ends with the block."""
    return running(FakeHub())
