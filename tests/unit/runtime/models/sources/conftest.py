"""A stand-in for the hub on 127.0.0.1."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4096
CONFIG = json.dumps(
    {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
).encode()


class Hub(ThreadingHTTPServer):
    """Serves acme/tiny over the hub's API. `answers`: statuses to give to downloads of weights first; `refusals`:
    statuses to give to questions about the repository first; `pause`: seconds after each 64 KiB of content; `claimed`:
    the sha256 of the weights, as it says; `asked`: (file, Range) of each download; `token`: who must be shown, if
    anybody; `sent`: bytes of content; `about`: what is said of the repository in the place of what is true;
    `tells_sizes`: whether sizes and digests are said with the names."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {
            "config.json": CONFIG,
            "tokenizer.json": b"{ }",
            "model.safetensors": WEIGHTS,
            "a.bin": b"pickle",
        }
        self.answers: list[int] = []
        self.refusals: list[int] = []
        self.tells_sizes = True
        self.pause = 0.0
        self.claimed = hashlib.sha256(WEIGHTS).hexdigest()
        self.asked: list[tuple[str, str | None]] = []
        self.token: str | None = None
        self.sent = 0
        self.about: bytes | None = None
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, parts = self.server, self.path.partition("?")[0].strip("/").split("/")
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif parts[:2] == ["api", "models"] and hub.refusals:
            self._answer(hub.refusals.pop(0), b"", {"Retry-After": "0"})
        elif parts[:1] == ["api"] and hub.about is not None:
            self._answer(200, hub.about, {})
        elif parts[:4] == ["api", "models", "acme", "tiny"]:
            about = {"id": "acme/tiny", "sha": SHA, "siblings": [self._sibling(name) for name in hub.files]}
            self._answer(200, json.dumps(about | {"private": False, "tags": [], "downloads": 0}).encode(), {})
        elif parts[:2] == ["acme", "tiny"]:
            name, wanted = "/".join(parts[4:]), self.headers.get("Range")
            hub.asked.append((name, wanted))
            if name == "model.safetensors" and hub.answers:
                self._answer(hub.answers.pop(0), b"", {"Retry-After": "0"})
            else:
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                self._answer(206 if wanted else 200, hub.files[name][start:], {})
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        """What a file's size is asked for with, where it was not told."""
        self._answer(403, b"", {})

    def _sibling(self, name: str) -> dict[str, object]:
        content = self.server.files[name]
        said = {"rfilename": name, "size": len(content)}
        if not self.server.tells_sizes:
            return {"rfilename": name}
        if name == "model.safetensors":
            return said | {"lfs": {"sha256": self.server.claimed, "size": len(content), "pointerSize": 1}}
        return said | {"blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(content), 2**16):
            self.server.sent += self.wfile.write(content[start : start + 2**16])
            time.sleep(self.server.pause if len(content) > 2**16 else 0)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
