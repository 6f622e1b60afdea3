"""Models of a real registry: a file a layer, or archives, as in images."""

import hashlib
import io
import json
import tarfile

import httpx
import pytest
from stores import running

from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import default_name, locate
from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.sources import oci
from octavo_runtime.models.sources.download import download

WEIGHTS = bytes(range(256)) * 4096
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": b"{ }", "README.md": b"#"}
SERVED = {name: FILES[name] for name in FILES if name != "README.md"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry:
    """What a test pushes."""

    def __init__(self, address):
        self.address = address
        self._http = httpx.Client(base_url=f"http://{address}/v2/", trust_env=False)

    def blob(self, name, content, kind, **annotations):
        place = self._http.post(f"{name}/blobs/uploads/").headers["Location"]
        self._http.put(place, params={"digest": digest(content)}, content=content).raise_for_status()
        layer = {"mediaType": kind, "digest": digest(content), "size": len(content)}
        return layer | ({"annotations": annotations} if annotations else {})

    def push(self, name, tag, layers, **more):
        config = self.blob(name, b"{}", "application/vnd.oci.empty.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}
        return self.put(name, tag, manifest, MANIFEST)

    def put(self, name, tag, manifest, kind):
        content = json.dumps(manifest).encode()
        headers = {"Content-Type": kind}
        self._http.put(f"{name}/manifests/{tag}", content=content, headers=headers).raise_for_status()
        return {"mediaType": kind, "digest": digest(content), "size": len(content)}


def archive(files, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture(scope="module")
def server():
    with running("registry", "-port", "PORT") as address:
        yield Registry(address)


@pytest.fixture
def registry(server, monkeypatch, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OCTAVO_OCI_ENDPOINT", f"http://{server.address}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return server


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_layer_a_file_as_oras_and_modelpack_push_them(registry, tmp_path):
    kind = "application/vnd.cncf.model.weight.v1.raw"
    named = {TITLE: list(SERVED)[:2], "org.cncf.model.filepath": ["tokenizer.json", "README.md"]}
    layers = [
        registry.blob("a/tiny", FILES[name], kind, **{key: name}) for key, names in named.items() for name in names
    ]
    pushed = registry.push("a/tiny", "v1", layers)
    model = "oci://registry.example/a/tiny:v1"
    done = download(model, tmp_path)
    assert content(done.folder) == SERVED
    assert f"sha256:{done.revision}" == pushed["digest"]
    assert (done.folder.name, default_name(model)) == ("tiny", "tiny")
    assert download(f"oci://registry.example/a/tiny@{pushed['digest']}", tmp_path).revision == done.revision
    ahead = locate(model, cache=tmp_path / "ahead", only=["config.json"])
    assert [path.name for path in ahead.folder.iterdir()] == ["config.json"]


def test_a_gguf_file_is_what_it_says_itself(registry, tmp_path):
    """Whatever config.json beside it says."""
    files = {"config.json": b'{"architectures": ["NobodysModel"]}', "one.gguf": b"GGUF"}
    layers = [registry.blob("g/one", files[name], "application/octet-stream", **{TITLE: name}) for name in files]
    registry.push("g/one", "v1", layers)
    done = download("oci://registry.example/g/one:v1", tmp_path, check=spec_from_folder)
    assert content(done.folder) == files


@pytest.mark.parametrize(("prefix", "mode"), [("models/", "w:gz"), ("./models/", "w"), ("", "w")])
def test_an_image_whose_archives_hold_the_model(registry, tmp_path, prefix, mode):
    name = f"image{len(prefix)}"
    kind = "application/vnd.docker.image.rootfs.diff.tar" + (".gzip" if mode == "w:gz" else "")
    first = {f"{prefix}{each}": FILES[each] for each in ("model.safetensors", "README.md")}
    first |= {f"{prefix}config.json": b"old", f"{prefix}vocab.txt": None, "deep/er/still/config.json": b"no"}
    second = {f"{prefix}config.json": FILES["config.json"], f"{prefix}tokenizer.json": FILES["tokenizer.json"]}
    module = "1_Pooling/config.json"
    second[prefix + module] = b"{  }"
    layers = [registry.blob(name, archive(each, mode), kind) for each in (first, second)]
    image = registry.push(name, "one", layers)
    index = "application/vnd.oci.image.index.v1+json"
    signature = registry.push(name, "sig", []) | {"platform": {"architecture": "unknown", "os": "unknown"}}
    image |= {"platform": {"architecture": "arm64", "os": "linux"}}
    listed = {"schemaVersion": 2, "mediaType": index, "manifests": [signature, image]}
    registry.put(name, "all", listed, index)
    done = download(f"oci://registry.example/{name}:all", tmp_path)
    assert content(done.folder) == {**SERVED, module: b"{  }"}
    assert f"sha256:{done.revision}" == image["digest"]


def test_what_is_spoilt_on_the_way_is_not_taken(registry, tmp_path):
    layers = [registry.blob("bad", FILES[name], "application/octet-stream", **{TITLE: name}) for name in SERVED]
    pushed = registry.push("bad", "latest", layers)
    revision = pushed["digest"].removeprefix("sha256:")
    found = oci.snapshot("oci://registry.example/bad")
    assert found.revision == revision
    done = download("oci://registry.example/bad", tmp_path)
    partial = done.folder.with_name("bad.partial")
    done.folder.rename(partial)
    (partial / "model.safetensors").unlink()
    (partial / "model.safetensors.part").write_bytes(b"\0" * 1000)
    assert content(download("oci://registry.example/bad", tmp_path).folder) == SERVED, "fetched anew"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("oci://registry.example/nothing:v1", "has no oci://registry.example/nothing:v1"),
        ("oci://registry.example", "must look like oci://REGISTRY/NAME:TAG"),
        ("oci://registry.example/none:v1", "no layer that is a named file or a tar archive"),
        ("oci://registry.example/torn:v1", "a layer that is no whole tar archive"),
        ("oci://registry.example/empty:v1", "hold neither a config.json nor a .gguf file"),
    ],
)
def test_what_a_person_must_mend_is_one_line(registry, tmp_path, model, words):
    registry.push("none", "v1", [registry.blob("none", b"x", "application/octet-stream")])
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    registry.push("torn", "v1", [registry.blob("torn", archive(SERVED)[:2000], kind)])
    registry.push("empty", "v1", [registry.blob("empty", archive({"a.txt": b""}), kind)])
    with pytest.raises(ModelNotFound, match=words) as error:
        download(model, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "manifest",
    [
        {"layers": 3},
        {"layers": [3]},
        {"layers": [{"annotations": 3}]},
        {"manifests": 3},
        {"manifests": [3]},
        {"manifests": [{}]},
    ],
)
def test_what_is_no_manifest_is_one_line(manifest, monkeypatch, tmp_path):
    answering(monkeypatch, lambda _: httpx.Response(200, json=manifest))
    with pytest.raises(ModelNotFound, match=r"answered with what is no manifest for oci://registry\.example/a:v1"):
        download("oci://registry.example/a:v1", tmp_path)


def answering(monkeypatch, answer):
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(oci.http, "client", lambda: httpx.Client(transport=transport, follow_redirects=True))


def test_a_token_is_asked_for_by_what_docker_login_stored(registry, monkeypatch, tmp_path):
    manifest = {
        "layers": [{"mediaType": "x", "digest": digest(b"{}"), "size": 2, "annotations": {TITLE: "config.json"}}]
    }
    asked = []

    def answer(request):
        asked.append((request.url.path, request.headers.get("Authorization")))
        if request.url.host == "auth.example":
            assert dict(request.url.params) == {"service": "r", "scope": "repository:a/tiny:pull"}
            good = request.headers.get("Authorization") == "Basic bmFtZTpwYXNz"
            return httpx.Response(200, json={"token": "t"}) if good else httpx.Response(401)
        if request.headers.get("Authorization") != "Bearer t":
            bearer = 'Bearer realm="https://auth.example/token",service="r",scope="repository:a/tiny:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": bearer})
        return httpx.Response(200, json=manifest)

    answering(monkeypatch, answer)
    with pytest.raises(
        ModelNotFound, match=r"no permission to read .* \(HTTP 401\); set the credentials of docker login"
    ):
        oci.snapshot("oci://registry.example/a/tiny:v1")
    (tmp_path / "docker").mkdir()
    login = {"auths": {"https://registry.example/v1/": {"auth": "bmFtZTpwYXNz"}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(login))
    assert list(oci.snapshot("oci://registry.example/a/tiny:v1").files) == ["config.json"]
    assert asked[-1] == ("/v2/a/tiny/manifests/v1", "Bearer t")


def test_a_manifest_that_is_another_is_refused(registry, monkeypatch):
    answering(monkeypatch, lambda _: httpx.Response(200, json={"layers": []}))
    with pytest.raises(ModelNotFound, match="is not what was asked for: its digest is sha256:"):
        oci.snapshot(f"oci://registry.example/a@sha256:{'0' * 64}")
