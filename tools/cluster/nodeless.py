"""A control plane without a node, from the cluster's own programs: etcd, kube-apiserver and kube-controller-manager on
free ports of 127.0.0.1, as many at once as are wanted. Each part can be stopped, frozen and started again."""

import json
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from paths import BIN

PATIENCE = 600.0  # seconds; nothing is measured by it
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
CONTROLLERS = (
    "deployment-controller,replicaset-controller,garbage-collector-controller,namespace-controller,"
    "serviceaccount-controller,clusterrole-aggregation-controller,horizontal-pod-autoscaler-controller,disruption-controller,"
    "job-controller"
)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def program(name: str, folder: str | Path | None = None) -> str | None:
    """Its path: in `folder`, by default the cluster's own, else on PATH."""
    return shutil.which(name, path=str(folder or BIN)) or shutil.which(name)


@dataclass
class ApiServer:
    """A running API server: `url`, the administrator's token, and where its files are. `commands`, `running`: its parts
    by their programs' names."""

    url: str
    token: str
    folder: Path
    commands: Mapping[str, Sequence[str]]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def kubeconfig(self, user: str, token: str) -> Path:
        """Write a kubeconfig that uses `token`; returns its path."""
        path = self.folder / f"{user}.kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(content))
        return path

    def kubectl(self, *arguments: str, document: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator; returns stdout and stderr together."""
        done = subprocess.run(
            [program("kubectl") or "kubectl", "--kubeconfig", self.folder / "admin.kubeconfig", *arguments],
            input=document,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout

    def start(self, name: str) -> None:
        """Start one part."""
        with (self.folder / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(self.commands[name], stdout=log, stderr=log)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one part, also a frozen one, and wait until it has ended."""
        process = self.running.pop(name)
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def freeze(self, name: str) -> None:
        """Let one part stand still until `thaw`."""
        self.running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self.running[name].send_signal(signal.SIGCONT)

    def wait_until_ready(self) -> None:
        """Until it answers that it is ready."""
        end = time.monotonic() + PATIENCE
        while "ok" not in self.kubectl("get", "--raw=/readyz", check=False).splitlines():
            assert time.monotonic() < end, (self.folder / "kube-apiserver.log").read_text()[-2000:]
            time.sleep(0.1)


@contextmanager
def running(
    folder: Path,
    *flags: str,
    users: Mapping[str, str] | None = None,
    programs: str | Path | None = None,
    further: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[ApiServer]:
    """One, until the block ends.

    Args:
        folder: for all that it writes, empty.
        flags: of kube-apiserver, beside its own.
        users: tokens of more administrators, by name.
        programs: the folder of the programs.
        further: commands of more parts, which the caller starts; {admin} stands for the administrator's kubeconfig.
    """
    paths = {name: program(name, programs) or name for name in PROGRAMS}
    client, peer, secure, controllers = (free_port() for _ in range(4))
    tokens = {"admin": secrets.token_hex(16), **(users or {})}
    key, certificates = folder / "service-accounts.key", f"--cert-dir={folder / 'certificates'}"
    admin = folder / "admin.kubeconfig"
    commands: dict[str, Sequence[str]] = {
        "etcd": [
            paths["etcd"],
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            paths["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{client}",
            f"--secure-port={secure}",
            "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            certificates,
            *flags,
        ],
        "kube-controller-manager": [
            paths["kube-controller-manager"],
            f"--kubeconfig={admin}",
            "--leader-elect=false",
            f"--secure-port={controllers}",
            certificates,
            f"--service-account-private-key-file={key}",
            f"--controllers={CONTROLLERS}",
            "--horizontal-pod-autoscaler-sync-period=1s",
        ],
    }
    more = {name: [word.replace("{admin}", str(admin)) for word in words] for name, words in (further or {}).items()}
    server = ApiServer(f"https://127.0.0.1:{secure}", tokens["admin"], folder, {**commands, **more})
    listed = [f"{token},{name},{name},system:masters\n" for name, token in tokens.items()]
    (folder / "tokens.csv").write_text("".join(listed))
    server.kubeconfig("admin", server.token)
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    try:
        for name in commands:
            server.start(name)
        server.wait_until_ready()
        yield server
    finally:
        for process in reversed(server.running.values()):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for name in reversed([*server.running]):
            server.stop(name)
