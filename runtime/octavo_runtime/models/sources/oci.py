"""Models in registries of containers, by the OCI distribution API, at OCTAVO_OCI_ENDPOINT or at the host of the URI.

A layer is a file that its annotation names, as ORAS and ModelPack push them, or an archive, as in images whose folder
/models holds the model. The revision is the digest of the manifest, and every layer is verified by its own.
https://github.com/opencontainers/distribution-spec"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.sources import http
from octavo_runtime.models.sources.snapshot import Bytes, Digest, Interrupted, RemoteFile, Snapshot

_URI = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]*))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
# What a layer's file is called: by ORAS, and by ModelPack.
_NAMES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_UNPACK = "io.deis.oras.content.unpack"
_ARCHIVE = re.compile(r"[.+]tar([.+]gzip)?$")
_LONGEST_MANIFEST = 4 * 2**20
_CREDENTIALS = "docker login (spec.model.credentialsSecret in an LLMService)"
_DOCKER_HUB = ("docker.io", "registry-1.docker.io", "https://index.docker.io/v1/")


def snapshot(model: str) -> Snapshot:
    """What a registry holds by a tag or a digest. Raises Interrupted and ModelNotFound."""
    match = _URI.fullmatch(model)
    if match is None:
        raise ModelNotFound(f"model: must look like oci://REGISTRY/NAME:TAG, got {model!r}")
    registry = _Registry(model, match["host"], match["name"])
    try:
        return _snapshot(model, registry, match["digest"] or match["tag"] or "latest")
    except (TypeError, AttributeError, KeyError):  # lists and objects in the place of each other
        raise registry.no_manifest() from None


def _snapshot(model: str, registry: "_Registry", reference: str) -> Snapshot:
    digest, manifest = registry.manifest(reference)
    if "manifests" in manifest:  # an index: one for each platform
        digest, manifest = registry.manifest(_first(model, manifest))
    files: dict[str, RemoteFile] = {}
    archives: list[RemoteFile] = []
    for number, layer in enumerate(manifest.get("layers") or []):
        kind, notes = str(layer.get("mediaType", "")), layer.get("annotations") or {}
        name = next((notes[key] for key in _NAMES if key in notes), None)
        if _ARCHIVE.search(kind) or notes.get(_UNPACK) == "true":
            archives.append(registry.blob(f"layer-{number:03}.tar", layer))
        elif name is not None:
            files[str(name)] = registry.blob(str(name), layer)
    if not files and not archives:
        raise ModelNotFound(f"model: {model} has no layer that is a named file or a tar archive, plain or gzip")
    return Snapshot(digest.removeprefix("sha256:"), files, archives=archives)


def _first(model: str, index: Mapping[str, Any]) -> str:
    """Of an index the manifest for a platform; a model is the same on each. Signatures are for platform unknown."""
    for each in index["manifests"]:
        if (each.get("platform") or {}).get("architecture") != "unknown":
            return str(each["digest"])
    raise ModelNotFound(f"model: {model} is an index without a manifest")


class _Registry:
    """One repository, and what its registry wants to be shown."""

    def __init__(self, model: str, host: str, name: str) -> None:
        self._model, self._name = model, name
        asked = _DOCKER_HUB[1] if host == _DOCKER_HUB[0] else host
        endpoint = os.environ.get("OCTAVO_OCI_ENDPOINT") or f"https://{asked}"
        if not endpoint.startswith(("http://", "https://")):
            raise ModelNotFound(f"OCTAVO_OCI_ENDPOINT: must be a URL such as http://registry:5000, got {endpoint!r}")
        self._url = endpoint.rstrip("/") + f"/v2/{name}"
        self._login = _login(host)
        self._asking = http.client()
        self._headers: dict[str, str] = {}

    def manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """Its digest, and the manifest."""
        url = f"{self._url}/manifests/{reference}"
        with http.reaching(url):
            answer = self._get(url)
            if answer.status_code == 401 and self._authorize(answer):
                answer = self._get(url)
        self._check(answer)
        if len(answer.content) > _LONGEST_MANIFEST:
            raise ModelNotFound(f"model: the manifest of {self._model} has more than {_LONGEST_MANIFEST} bytes")
        digest = "sha256:" + hashlib.sha256(answer.content).hexdigest()
        if reference.startswith("sha256:") and digest != reference:
            raise ModelNotFound(
                f"model: the manifest of {self._model} is not what was asked for: its digest is {digest}"
            )
        try:
            manifest = json.loads(answer.content)
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict):
            raise self.no_manifest()
        return digest, manifest

    def no_manifest(self) -> ModelNotFound:
        """What is wrong with such an answer."""
        return ModelNotFound(f"model: {self._host} answered with what is no manifest for {self._model}")

    def blob(self, name: str, layer: Mapping[str, Any]) -> RemoteFile:
        """A layer."""
        algorithm, _, value = str(layer.get("digest", "")).partition(":")
        if algorithm not in ("sha256", "sha512") or not isinstance(layer.get("size"), int):
            raise ModelNotFound(f"model: {self._model} has a layer without a digest and a size that are known")
        url, size = f"{self._url}/blobs/{algorithm}:{value}", layer["size"]

        @contextmanager
        def read(offset: int) -> Iterator[Bytes]:
            with http.read(self._asking, url, self._headers, offset, self._check_blob, size) as content:
                yield content

        return RemoteFile(name, size, Digest(algorithm, value), read)

    @property
    def _host(self) -> str:
        return httpx.URL(self._url).netloc.decode()

    def _get(self, url: str) -> httpx.Response:
        return self._asking.get(url, headers=self._headers | {"Accept": ", ".join(_MANIFESTS)})

    def _check_blob(self, answer: httpx.Response) -> None:
        # A token lasts some minutes, and a large model takes longer.
        if answer.status_code == 401 and self._headers and self._authorize(answer):
            raise Interrupted(f"{self._host} wants another token", 0)
        self._check(answer)

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status < 400:
            return
        if passing := http.interruption(answer, self._host):
            raise passing
        if status in (401, 403):
            given = "check" if self._login else "set"
            said = f"no permission to read {self._model} (HTTP {status}); {given} the credentials of {_CREDENTIALS}"
            raise ModelNotFound(f"model: {said}")
        if status == 404:
            raise ModelNotFound(f"model: {self._host} has no {self._model}")
        raise ModelNotFound(f"model: {self._host} answered HTTP {status} for {self._model}")

    def _authorize(self, answer: httpx.Response) -> bool:
        """Have shown from now on what the registry asks for; whether there is anything to show."""
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        basic = {"Authorization": "Basic " + base64.b64encode(self._login.encode()).decode()} if self._login else {}
        if scheme.lower() == "basic":
            self._headers = basic
            return bool(basic)
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if scheme.lower() != "bearer" or "realm" not in asked:
            return False
        wanted = {"service": asked.get("service", ""), "scope": asked.get("scope", f"repository:{self._name}:pull")}
        with http.reaching(asked["realm"]):
            token = self._asking.get(asked["realm"], params=wanted, headers=basic)
        self._check(token)
        try:
            said = token.json()
            self._headers = {"Authorization": f"Bearer {said.get('token') or said['access_token']}"}
        except (ValueError, KeyError, AttributeError):
            raise ModelNotFound(f"model: {asked['realm']} gave no token for {self._model}") from None
        return True


def _login(host: str) -> str | None:
    """NAME:PASSWORD for a registry, as `docker login` has stored it."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    try:
        auths = json.loads((Path(folder) / "config.json").read_text()).get("auths") or {}
    except OSError:
        return None
    except (ValueError, AttributeError):
        raise ModelNotFound(f"{folder}/config.json: must be JSON, as docker login writes it") from None
    names = _DOCKER_HUB if host == _DOCKER_HUB[0] else (host,)
    for key, said in auths.items():
        if key in names or re.sub(r"^https?://|/.*$", "", key) in names:
            if "auth" in said:
                return base64.b64decode(said["auth"]).decode()
            return f"{said['username']}:{said['password']}" if "username" in said else None
    return None
