"""The cluster's certificates (openssl, elliptic curve P-256), and kubeconfig files that carry them."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import network
from commands import run
from paths import KUBECONFIG, PKI

DAYS = "3650"
API_PORT = 6443


@dataclass(frozen=True)
class Certificate:
    """Who a certificate names (`user` in `group`), and the addresses it serves (none: for clients alone)."""

    user: str
    group: str = "octavo"
    addresses: tuple[str, ...] = ()


CERTIFICATES = {
    "apiserver": Certificate(
        "kube-apiserver",
        addresses=(
            "IP:127.0.0.1",
            f"IP:{network.NODE_ADDRESS}",
            f"IP:{network.API_SERVICE}",
            "DNS:localhost",
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            "DNS:kubernetes.default.svc.cluster.local",
        ),
    ),
    "admin": Certificate("admin", "system:masters"),
    "controller-manager": Certificate("system:kube-controller-manager"),
    "scheduler": Certificate("system:kube-scheduler"),
    "proxy": Certificate("system:kube-proxy"),
    "kubelet": Certificate("system:node:node-0", "system:nodes", (f"IP:{network.NODE_ADDRESS}", "DNS:node-0")),
    "kubelet-client": Certificate("kube-apiserver", "system:masters"),
    "front-proxy": Certificate("front-proxy-client"),
}
# These reach the API server through a kubeconfig.
CLIENTS = ("admin", "controller-manager", "scheduler", "proxy", "kubelet")


def ensure() -> None:
    """Make the authority, the certificates, the service account key and the kubeconfig files that are missing."""
    PKI.mkdir(parents=True, exist_ok=True)
    PKI.chmod(0o700)
    if not crt("ca").exists():
        _request("ca", "/CN=octavo-ca", "-x509", "-days", DAYS, "-out", crt("ca"))
    if not service_account_key().exists():
        run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", service_account_key()])
    for name, certificate in CERTIFICATES.items():
        if not crt(name).exists():
            _sign(name, certificate)
    for name in CLIENTS:
        _write_private(kubeconfig(name), _kubeconfig(name))
    _write_private(KUBECONFIG, _kubeconfig("admin"))


def crt(name: str) -> Path:
    """The certificate of `name`."""
    return PKI / f"{name}.crt"


def key(name: str) -> Path:
    """The private key of `name`."""
    return PKI / f"{name}.key"


def service_account_key() -> Path:
    """The key that signs service account tokens."""
    return key("service-account")


def kubeconfig(name: str) -> Path:
    """The kubeconfig of `name`, one of CLIENTS."""
    return PKI / f"{name}.kubeconfig"


def _request(name: str, subject: str, *options: str | Path) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run(["openssl", "req", "-new", *curve, "-keyout", key(name), "-subj", subject, *options])


def _sign(name: str, certificate: Certificate) -> None:
    request, extensions = PKI / f"{name}.csr", PKI / f"{name}.ext"
    usage = "serverAuth,clientAuth" if certificate.addresses else "clientAuth"
    names = f"subjectAltName={','.join(certificate.addresses)}\n" if certificate.addresses else ""
    extensions.write_text(f"{names}extendedKeyUsage={usage}\n")
    _request(name, f"/O={certificate.group}/CN={certificate.user}", "-out", request)
    run([
        "openssl", "x509", "-req", "-in", request, "-CA", crt("ca"), "-CAkey", key("ca"), "-CAcreateserial",
        "-days", DAYS, "-extfile", extensions, "-out", crt(name),
    ])  # fmt: skip
    request.unlink()
    extensions.unlink()


def _kubeconfig(name: str) -> str:
    cluster = {"server": network.url(API_PORT), "certificate-authority-data": _encoded(crt("ca"))}
    user = {"client-certificate-data": _encoded(crt(name)), "client-key-data": _encoded(key(name))}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "octavo", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "octavo", "context": {"cluster": "octavo", "user": name}}],
        "current-context": "octavo",
    }
    return json.dumps(content, indent=1) + "\n"


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write_private(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.touch(mode=0o600)
    path.write_text(text)
