"""HTTPS: the certificate is shown, taken over when it changes, and asked of clients where that is wanted."""

import socket
import ssl
import subprocess
import threading
from pathlib import Path

import httpx
import openai
import pytest
from event_reader import read
from patience import PATIENCE, eventually

from octavo_runtime.config.server import ServerConfig
from octavo_runtime.server.http.tls import load_tls

pytestmark = pytest.mark.slow


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Authority:
    """An authority of a test's own. file: its certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", self._key, "-out", self.file,
        )  # fmt: skip

    def sign(self, certificate: Path, key: Path, name: str) -> None:
        """Writes a certificate for 127.0.0.1 and its key."""
        request = certificate.with_suffix(".csr")
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", request,
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", request, "-days", "2", "-copy_extensions", "copy",
            "-CA", self.file, "-CAkey", self._key, "-CAcreateserial", "-out", certificate,
        )  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "test authority")


@pytest.fixture
def pair(authority, tmp_path):
    """A server's certificate and key."""
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    authority.sign(certificate, key, "first")
    return certificate, key


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


def started(start_scripted, pair, *arguments: str):
    server = start_scripted("--tls-cert", str(pair[0]), "--tls-key", str(pair[1]), *arguments)
    assert server.url.startswith("https://")
    return server


def shown(server, context: ssl.SSLContext) -> str:
    """The common name of the certificate that a server shows."""
    host, port = server.url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        subject = wrapped.getpeercert()["subject"]
        return dict(pair[0] for pair in subject)["commonName"]


def test_a_certificate_is_shown_and_taken_over_when_it_changes(start_scripted, authority, pair):
    server, context = started(start_scripted, pair), trusting(authority)
    complaints: list[str] = []
    threading.Thread(target=complaints.extend, args=(server.process.stderr,), daemon=True).start()
    with httpx.Client(base_url=server.url, verify=context, trust_env=False, timeout=PATIENCE) as http:
        eventually(lambda: http.get("/health/ready").status_code == 200)
        sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", http_client=http)
        chunks = sdk.completions.create(model="smollm2", prompt="hi", stream=True, max_tokens=200)
        assert "Paris" in "".join(chunk.choices[0].text for chunk in chunks)
        assert shown(server, context) == "first"

        with httpx.stream(
            "POST", f"{server.url}/v1/completions", verify=context, trust_env=False, timeout=PATIENCE,
            json={"model": "smollm2", "prompt": "[slow]", "max_tokens": 150, "stream": True},
        ) as old:  # fmt: skip
            events = read(old.iter_lines())
            next(events)
            certificate, key = pair
            good = key.read_bytes()
            key.write_text("nothing")
            eventually(lambda: any("not taken over: tls_key" in line for line in complaints))
            assert shown(server, context) == "first", "half of a pair changes nothing"
            key.write_bytes(good)
            authority.sign(certificate, key, "second")
            eventually(lambda: shown(server, context) == "second")
            assert list(events)[-1].data == "[DONE]", "an open connection goes on"
        assert http.get("/health").status_code == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_and_plain_http_are_refused(start_scripted, authority, pair):
    server = started(start_scripted, pair)
    context = trusting(authority)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shown(server, context)
    with pytest.raises(httpx.HTTPError):
        httpx.get(server.url.replace("https", "http") + "/health", trust_env=False, timeout=PATIENCE)
    eventually(
        lambda: (
            httpx.get(f"{server.url}/health", verify=trusting(authority), trust_env=False, timeout=PATIENCE).is_success
        )
    )


def test_clients_show_a_certificate_where_it_is_asked_for(start_scripted, authority, pair, tmp_path):
    server = started(start_scripted, pair, "--tls-client-ca", str(authority.file))
    stranger = Authority(tmp_path, "stranger")
    for signer, let_in in ((None, False), (stranger, False), (authority, True)):
        context = trusting(authority)
        if signer is not None:
            signer.sign(tmp_path / "client.crt", tmp_path / "client.key", "client")
            context.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
        with httpx.Client(verify=context, trust_env=False, timeout=PATIENCE) as http:
            if let_in:
                assert http.get(f"{server.url}/version").status_code == 200
            else:
                with pytest.raises(httpx.HTTPError):
                    http.get(f"{server.url}/version")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tls_cert": "{cert}"}, "tls_key: required with tls_cert"),
        ({"tls_key": "{key}"}, "tls_cert: required with tls_key"),
        ({"tls_client_ca": "{cert}"}, "tls_cert: required with tls_client_ca"),
        ({"tls_cert": "/nowhere", "tls_key": "{key}"}, "tls_cert: cannot read /nowhere: No such file"),
        ({"tls_cert": "{cert}", "tls_key": "{folder}"}, "tls_key: cannot read {folder}: Is a directory"),
        ({"tls_cert": "{cert}", "tls_key": "{other}"}, "tls_key: {other} is not the key of the certificate {cert}"),
        ({"tls_cert": "{key}", "tls_key": "{key}"}, "tls_cert: {key} holds no certificate in PEM form"),
        ({"tls_cert": "{cert}", "tls_key": "{cert}"}, "tls_key: {cert} holds no private key in PEM form"),
        ({"tls_cert": "{cert}", "tls_key": "{locked}"}, "tls_key: cannot use {locked}: it is encrypted"),
        ({"tls_cert": "{cert}", "tls_key": "{key}", "tls_client_ca": "{key}"}, "tls_client_ca: {key} holds no cert"),
    ],
)
def test_files_that_cannot_be_used_are_named(pair, authority, tmp_path, given, words):
    other, locked = tmp_path / "other.key", tmp_path / "locked.key"
    authority.sign(tmp_path / "other.crt", other, "other")
    openssl("ec", "-in", pair[1], "-aes256", "-passout", "pass:secret", "-out", locked)
    names = {"cert": pair[0], "key": pair[1], "other": other, "locked": locked, "folder": tmp_path}
    config = ServerConfig(**{name: path.format(**names) for name, path in given.items()})
    with pytest.raises(ValueError, match="tls") as refusal:
        load_tls(config)
    assert words.format(**names) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_tls_without_files():
    assert load_tls(ServerConfig()) is None
