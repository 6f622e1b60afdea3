"""A real API server for tests marked `cluster`: etcd, kube-apiserver and kube-controller-manager, without a node."""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from authority import authority
from live import free_port
from paths import BIN
from patience import PATIENCE, eventually

ROOT = Path(__file__).parents[3]
CONTROLLERS = (
    "deployment-controller,replicaset-controller,garbage-collector-controller,namespace-controller,"
    "serviceaccount-controller,clusterrole-aggregation-controller,horizontal-pod-autoscaler-controller,disruption-controller"
)


@dataclass(frozen=True)
class ApiServer:
    """A running API server: `url`, the admin's token, and a kubeconfig file for it."""

    url: str
    token: str
    folder: Path

    def kubeconfig(self, user: str, token: str) -> Path:
        """Write a kubeconfig that uses `token`; returns its path."""
        path = self.folder / f"{user}.kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
                    "users": [{"name": user, "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                    "current-context": "test",
                }
            )
        )
        return path

    def kubectl(self, *arguments: str, document: str | None = None, check: bool = True) -> str:
        """Run kubectl as admin; returns stdout and stderr together."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.folder / "admin.kubeconfig"), *arguments],
            input=document,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout


def _binary(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("OCTAVO_BIN") or BIN) or shutil.which(name)


@pytest.fixture(scope="session")
def kstatus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that says what kstatus makes of objects; skips where Go cannot build it."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go, which builds kstatus")
    program = tmp_path_factory.mktemp("kstatus") / "kstatus"
    folder = Path(__file__).parent / "kstatus"
    flags = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    command = [go, "build", "-buildvcs=false", "-o", str(program), "."]
    built = subprocess.run(command, cwd=folder, env=os.environ | flags, capture_output=True, text=True, timeout=900)
    if built.returncode and re.search(r"requires go >=|dial tcp|no such host|proxyconnect", built.stderr):
        pytest.skip(f"go cannot build kstatus here: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    names = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
    programs = {name: _binary(name) for name in names}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.skip(f"no {', '.join(missing)} (make cluster-up, or set OCTAVO_BIN to their folder)")
    folder = tmp_path_factory.mktemp("api-server")
    client, peer, secure, controllers = (free_port() for _ in range(4))
    server = ApiServer(f"https://127.0.0.1:{secure}", secrets.token_hex(16), folder)
    (folder / "tokens.csv").write_text(f"{server.token},admin,admin,system:masters\n")
    admin = server.kubeconfig("admin", server.token)
    key = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    trusted = authority(folder, "front-proxy-ca")
    proxy, proxy_key = trusted.sign("front-proxy-client")
    commands = [
        [
            programs["etcd"],
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        [
            programs["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{client}",
            f"--secure-port={secure}",
            "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.97.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            f"--requestheader-client-ca-file={trusted.path}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={proxy}",
            f"--proxy-client-key-file={proxy_key}",
            "--enable-aggregator-routing=true",
            f"--cert-dir={folder / 'certificates'}",
        ],
        [
            programs["kube-controller-manager"],
            f"--kubeconfig={admin}",
            "--leader-elect=false",
            f"--secure-port={controllers}",
            f"--cert-dir={folder / 'certificates'}",
            f"--service-account-private-key-file={key}",
            f"--controllers={CONTROLLERS}",
            "--horizontal-pod-autoscaler-sync-period=1s",
        ],
    ]
    running = []
    try:
        for command in commands:
            log = (folder / f"{Path(str(command[0])).name}.log").open("w")
            running.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log))
        eventually(
            lambda: "ok" in server.kubectl("get", "--raw=/readyz", check=False).splitlines(),
            lambda: (folder / "kube-apiserver.log").read_text()[-2000:],
        )
        yield server
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
