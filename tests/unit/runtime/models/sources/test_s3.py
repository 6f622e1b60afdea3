"""Models of a real S3 server."""

import http.server
import io
import threading

import pytest
from minio import Minio
from stores import running

from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import default_name, locate
from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.sources import s3, transfer
from octavo_runtime.models.sources.download import download
from octavo_runtime.models.sources.progress import Progress
from octavo_runtime.models.sources.snapshot import Interrupted
from octavo_runtime.models.spec import UnsupportedModel

WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{ }",
    "a.bin": b"x",
    "onnx/m.json": b"",
}


@pytest.fixture(scope="module")
def server():
    with running("gofakes3", "-backend", "memory", "-host", "127.0.0.1:PORT", "-initialbucket", "models") as address:
        client = Minio(address, "key", "secret", secure=False, region="us-east-1")
        for name, content in FILES.items():
            client.put_object("models", f"a/tiny/{name}", io.BytesIO(content), len(content))
        client.put_object("models", "a/tiny-2/config.json", io.BytesIO(b"{}"), 2)
        client.put_object("models", "g/one.gguf", io.BytesIO(b"GGUF"), 4)
        yield client, address


@pytest.fixture
def bucket(server, monkeypatch):
    client, address = server
    for name in ("http_proxy", "HTTP_PROXY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return client


def test_what_serving_needs_is_downloaded_once_and_whole(bucket, tmp_path):
    done = download("s3://models/a/tiny", tmp_path)
    assert {path.name: path.read_bytes() for path in done.folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors", "tokenizer.json")
    }
    assert done.folder.name == "tiny"
    assert download("s3://models/a/tiny/", tmp_path) == done


def test_another_content_is_another_revision(bucket, tmp_path):
    first = download("s3://models/a/tiny", tmp_path)
    bucket.put_object("models", "a/tiny/config.json", io.BytesIO(b"{ }"), 3)
    try:
        second = download("s3://models/a/tiny", tmp_path)
    finally:
        bucket.put_object("models", "a/tiny/config.json", io.BytesIO(b"{}"), 2)
    assert second.revision != first.revision
    assert (first.folder / "config.json").read_bytes() == b"{}"
    assert (second.folder / "config.json").read_bytes() == b"{ }"


@pytest.mark.parametrize("former", [WEIGHTS[:500_000], b"\0" * 500_000], ids=["good", "spoilt"])
def test_it_goes_on_at_the_byte_where_it_was_and_mends_what_is_spoilt(bucket, tmp_path, former):
    done = download("s3://models/a/tiny", tmp_path)
    partial = done.folder.with_name("tiny.partial")
    done.folder.rename(partial)
    (partial / "model.safetensors").unlink()
    (partial / "model.safetensors.part").write_bytes(former)
    moved = []
    progress = Progress()
    progress.moved = moved.append
    assert download("s3://models/a/tiny", tmp_path, progress) == done
    assert (done.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert sum(moved) == len(WEIGHTS) - 500_000
    assert (max(moved) <= len(WEIGHTS) - 500_000) or former != WEIGHTS[:500_000]


def test_a_file_of_gguf_can_be_named(bucket, tmp_path):
    found = locate("s3://models/g/one.gguf", cache=tmp_path)
    assert (found.name, found.gguf and found.gguf.read_bytes()) == ("one", b"GGUF")
    assert default_name("s3://models/a/tiny") == "tiny"


def test_a_gguf_file_is_what_it_says_itself(bucket, tmp_path):
    """Whatever config.json beside it says."""
    for name, content in {"config.json": b'{"architectures": ["NobodysModel"]}', "two.gguf": b"GGUF"}.items():
        bucket.put_object("models", f"both/{name}", io.BytesIO(content), len(content))
    done = download("s3://models/both/two.gguf", tmp_path, check=spec_from_folder)
    assert sorted(path.name for path in done.folder.iterdir()) == ["config.json", "two.gguf"]


def test_a_model_that_cannot_be_served_is_refused_before_its_weights_come(bucket, tmp_path):
    with pytest.raises(UnsupportedModel, match=r"config\.json: architecture must be one of .*, got unknown"):
        locate("s3://models/a/tiny", cache=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_config_alone_is_read_ahead(bucket, tmp_path):
    found = locate("s3://models/a/tiny", cache=tmp_path, only=["config.json"])
    assert [path.name for path in found.folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("s3://no-such-bucket/a", "there is no bucket no-such-bucket on 127.0.0.1"),
        ("s3://models/a/ti", "bucket models has nothing below a/ti/"),
        ("s3://models/a/tiny-2", "must have model.safetensors.index.json, model.safetensors or a .gguf file"),
        ("s3://models/g/two.gguf", "no file two.gguf"),
        ("s3://M/a", "must look like s3://BUCKET/PREFIX"),
    ],
)
def test_what_a_person_must_mend_is_one_line(bucket, tmp_path, model, words):
    with pytest.raises(ModelNotFound, match=words) as error:
        download(model, tmp_path)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_waited_for(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_PAUSES", (0.0,))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Interrupted, match=r"no answer from 127\.0\.0\.1:9"):
        download("s3://models/a", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(ModelNotFound, match="AWS_ENDPOINT_URL: must be a URL such as http://minio:9000, got"):
        download("s3://models/a", tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", ModelNotFound, r"no permission to read s3://models/a on .* \(AccessDenied\); check AWS_"),
        (403, "SignatureDoesNotMatch", ModelNotFound, "spec.model.credentialsSecret"),
        (503, "SlowDown", Interrupted, r"answers HTTP 503 \(SlowDown\)"),
        (400, "InvalidRequest", ModelNotFound, "answered HTTP 400 for s3://models/a: InvalidRequest: because"),
    ],
)
def test_what_a_server_says_is_told(bucket, monkeypatch, status, code, error, words):
    content = f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as refusing:
        thread = threading.Thread(target=refusing.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{refusing.server_port}")
        try:
            with pytest.raises(error, match=words):
                s3.snapshot("s3://models/a")
        finally:
            refusing.shutdown()
            thread.join()
