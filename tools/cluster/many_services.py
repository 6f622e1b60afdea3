"""How the operator copes with many LLMServices: `make bench-operator`.

An API server of its own with kwok, which answers for pods that do not run; no other cluster is needed nor touched. What
is measured is read from the API server's audit log and from /proc. Progress goes to standard error, a table to standard
output; `--json FILE` writes the same figures.
"""

import argparse
import datetime
import json
import os
import platform
import secrets
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import audit_log
import binaries
import nodeless
from audit_log import OPERATOR, calls, delays, of_operator, taken
from nodeless import ApiServer
from steps import say, step

ROOT = Path(__file__).parents[2]
NAMESPACES, NODES = 10, 10
CHANGES, CHANGES_A_SECOND = 100, 2
SERVICES_PATH = "/apis/serving.octavo.dev/v1alpha1"
PATIENCE = 1800.0  # seconds
Object = dict[str, Any]


def stage(name: str, kind: str, expressions: list[Object], then: Object) -> Object:
    """What kwok does with the objects of a kind that `expressions` pick."""
    spec = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": expressions},
        "next": then,
    }
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


NOT_RUNNING = {"key": ".status.phase", "operator": "NotIn", "values": ["Running"]}
LEAVES = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
STAYS = LEAVES | {"operator": "DoesNotExist"}
# Pods answer at once. At their address nobody listens, and says so at once.
STAGES = (
    stage(
        "node",
        "Node",
        [NOT_RUNNING],
        {"statusTemplate": '{phase: Running, conditions: [{type: Ready, status: "True"}]}'},
    ),
    stage(
        "ready",
        "Pod",
        [STAYS, NOT_RUNNING],
        {
            "statusTemplate": """
phase: Running
podIP: 127.1.0.1
startTime: {{ Now | Quote }}
conditions:
- {type: ContainersReady, status: "True", lastTransitionTime: {{ Now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ Now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ Now | Quote }}}}
{{ end }}
"""
        },
    ),
    stage("gone", "Pod", [LEAVES], {"delete": True}),
)


def ask(server: ApiServer, method: str, path: str, body: Object | None = None) -> Object:
    """One request as administrator; raises urllib.error.HTTPError."""
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": kind}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, content, headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=120) as answer:  # noqa: S310, S323
        found: Object = json.load(answer)
    return found


def make_nodes(server: ApiServer, pods: int) -> None:
    """Nodes that hold so many pods, and as many again."""
    room = {"cpu": "10k", "memory": "100Ti", "pods": str(2 * pods // NODES + 100)}
    for number in range(NODES):
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{number}"},
            "status": {"capacity": room, "allocatable": room},
        }
        ask(server, "POST", "/api/v1/nodes", node)
        # It is made with a taint that a controller takes off once it is ready; that controller is not there.
        ask(server, "PATCH", f"/api/v1/nodes/node-{number}", {"spec": {"taints": None}})


def where(number: int) -> str:
    """The path of a service."""
    return f"{SERVICES_PATH}/namespaces/tenant-{number % NAMESPACES}/llmservices/s{number}"


def wait_until_known(server: ApiServer) -> None:
    """Until the API server serves LLMServices. `kubectl wait` fails on a definition that has no condition yet."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(urllib.error.HTTPError):
            ask(server, "GET", f"{SERVICES_PATH}/llmservices")
            return
        time.sleep(0.5)
    raise SystemExit("the API server does not serve LLMServices after 60 s")


def make_services(server: ApiServer, count: int) -> None:
    for number in range(count):
        service = {
            "apiVersion": "serving.octavo.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": f"s{number}"},
            "spec": {"model": {"uri": "builtin://smollm2"}},
        }
        ask(server, "POST", where(number).rsplit("/", 1)[0], service)


def serving(server: ApiServer) -> Counter[str]:
    """How many services there are by what Ready says."""
    found = Counter[str]()
    for service in ask(server, "GET", f"{SERVICES_PATH}/llmservices?resourceVersion=0")["items"]:
        conditions = {item["type"]: item for item in service.get("status", {}).get("conditions", [])}
        is_now = service.get("status", {}).get("observedGeneration") == service["metadata"]["generation"]
        found[conditions["Ready"]["reason"] if is_now and "Ready" in conditions else "not looked at"] += 1
    return found


def wait_until_all_serve(server: ApiServer, count: int) -> None:
    end = time.monotonic() + PATIENCE
    while (found := serving(server)) != Counter({"Serving": count}):
        if time.monotonic() > end:
            raise SystemExit(f"not all serve after {PATIENCE:g} s: {dict(found)}")
        time.sleep(1 + count / 250)  # a look costs the API server something too


def quantile(values: list[float], share: float) -> float:
    """Of values in ascending order."""
    return values[min(len(values) - 1, int(share * len(values)))]


def memory(process: int, field: str) -> float:
    """MiB: VmRSS now, VmHWM at most."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(f"{field}:")).split()[1]) / 1024


def cpu(process: int) -> float:
    """Seconds of processor that it has used."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def rounds(port: int) -> float:
    """Reconciles so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("octavo_operator_reconcile_seconds_count"))


def rest(server: ApiServer, process: int, port: int, seconds: float) -> Object:
    """What the operator does while nothing changes; after the last write of its has settled."""
    time.sleep(20)
    first, used, made = len(audit_log.read(server)), cpu(process), rounds(port)
    time.sleep(seconds)
    events = of_operator(audit_log.read(server)[first:])
    writes = [event for event in events if event["verb"] not in ("get", "list")]
    return {
        "cpu_at_rest_percent": 100 * (cpu(process) - used) / seconds,
        "reconciles_at_rest_per_minute": 60 * (rounds(port) - made) / seconds,
        "writes_at_rest_per_minute": {
            resource: 60 * number / seconds
            for resource, number in Counter(event["objectRef"]["resource"] for event in writes).items()
        },
    }


def change(server: ApiServer, numbers: range) -> None:
    """Services one after another, each so that its pods are to be replaced."""
    for number in numbers:
        ask(server, "PATCH", where(number), {"spec": {"engine": {"maxNumSeqs": 32}}})
        time.sleep(1 / CHANGES_A_SECOND)


def measure(server: ApiServer, operator: "Operator", count: int) -> Object:
    """The figures."""
    figures: Object = {"services": count, "memory_mib_idle": memory(operator.process, "VmRSS")}
    start, used = time.monotonic(), cpu(operator.process)
    with step(f"make {count} services"):
        make_services(server, count)
    figures["seconds_to_make"] = time.monotonic() - start
    with step("until all of them serve"):
        wait_until_all_serve(server, count)
    figures["seconds_to_converge"] = time.monotonic() - start
    figures["cpu_seconds_to_converge"] = cpu(operator.process) - used
    events, made = audit_log.read(server), rounds(operator.port)
    waits = delays(events, taken(events, "create"))
    figures["creation_to_deployment_p50_s"], figures["creation_to_deployment_p99_s"] = (
        quantile(waits, share) for share in (0.5, 0.99)
    )
    figures["reconciles_per_service"] = made / count
    asked = calls(events)
    figures["calls_per_reconcile"] = {verb: number / made for verb, number in asked.items()}
    figures["calls_per_service"] = sum(asked.values()) / count
    figures["memory_mib_converged"] = memory(operator.process, "VmRSS")
    say("\n".join(table(figures)))
    with step("at rest"):
        figures |= rest(server, operator.process, operator.port, 60)
    changed = range(0, count, -(-count // CHANGES))
    with step(f"change {len(changed)} of them, {CHANGES_A_SECOND} a second"):
        change(server, changed)
        wait_until_all_serve(server, count)
    events = audit_log.read(server)
    waits = delays(events, taken(events, "patch"))
    figures["change_to_deployment_p50_s"], figures["change_to_deployment_p99_s"] = (
        quantile(waits, share) for share in (0.5, 0.99)
    )
    figures["memory_mib_peak"] = memory(operator.process, "VmHWM")
    figures["cpu_seconds_all"] = cpu(operator.process)
    figures["load_average"] = os.getloadavg()[1]
    return figures


class Operator:
    """A running operator: its process and the port of its metrics."""

    def __init__(self, kubeconfig: Path, log: Path, profile: Path | None) -> None:
        self.port = nodeless.free_port()
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "OCTAVO_RUNTIME_IMAGE": "octavo.local/demo:1",
            "OCTAVO_HEALTH_PORT": str(nodeless.free_port()),
            "OCTAVO_METRICS_PORT": str(self.port),
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runtime'}",
        }
        command = [
            sys.executable,
            *(["-m", "cProfile", "-o", str(profile)] if profile else []),
            "-m",
            "octavo_operator",
        ]
        with log.open("w") as file:
            self._running = subprocess.Popen(command, env=os.environ | environment, stdout=file, stderr=file)
        self.process = self._running.pid
        self._wait(lambda: rounds(self.port) == 0, log)

    def _wait(self, answers: Callable[[], bool], log: Path) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and self._running.poll() is None:
            try:
                if answers():
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise SystemExit(f"the operator does not start: {log.read_text()[-2000:]}")

    def stop(self) -> None:
        self._running.terminate()
        try:
            self._running.wait(60)
        except subprocess.TimeoutExpired:
            self._running.kill()


@contextmanager
def place(folder: Path, count: int, profile: Path | None) -> Iterator[tuple[ApiServer, Operator]]:
    """The API server with its nodes and the operator, nothing in it yet."""
    (folder / "audit.json").write_text(json.dumps(audit_log.POLICY))
    (folder / "stages.yaml").write_text("\n---\n".join(json.dumps(each) for each in STAGES))
    token = secrets.token_hex(16)
    further = {
        "kube-scheduler": [
            nodeless.program("kube-scheduler") or "kube-scheduler",
            "--kubeconfig={admin}",
            "--leader-elect=false",
            f"--secure-port={nodeless.free_port()}",
        ],
        "kwok": [
            nodeless.program("kwok") or "kwok",
            "--kubeconfig={admin}",
            "--manage-all-nodes",
            f"--config={folder / 'stages.yaml'}",
        ],
    }
    flags = (
        f"--audit-policy-file={folder / 'audit.json'}",
        f"--audit-log-path={folder / 'audit.log'}",
        # kwok would list by a watch, which Debian's etcd cannot do, and would try it again with growing pauses.
        "--feature-gates=WatchList=false",
    )
    with nodeless.running(folder, *flags, users={OPERATOR: token}, further=further) as server:
        server.start("kube-scheduler")
        server.start("kwok")
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            server.kubectl("apply", "--server-side", f"--filename={path}")
        wait_until_known(server)
        make_nodes(server, count)
        for number in range(NAMESPACES):
            server.kubectl("create", "namespace", f"tenant-{number}")
        operator = Operator(server.kubeconfig(OPERATOR, token), folder / "operator.log", profile)
        try:
            yield server, operator
        finally:
            operator.stop()


def table(figures: Object) -> Iterator[str]:
    for name, value in figures.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in rows:
            label = f"{name.replace('_', ' ')}{': ' if part else ''}{part}"
            yield f"{label:<60} {number:>10.2f}" if isinstance(number, float) else f"{label:<60} {number!s:>10}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--profile", type=Path, help="profile the operator into this file, by cProfile: it is slower then"
    )
    options = parser.parse_args()
    if options.services < 1:
        parser.error(f"--services must be at least 1, not {options.services}")
    binaries.ensure([module for module in (*binaries.MODULES, binaries.KWOK) if module.name in ("kubernetes", "kwok")])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and what was started with it
    with (
        tempfile.TemporaryDirectory(prefix="octavo-many-services-") as folder,
        place(Path(folder), options.services, options.profile) as (server, operator),
    ):
        figures = measure(server, operator, options.services)
    now = datetime.datetime.now().astimezone()
    figures = {"date": f"{now:%Y-%m-%d %H:%M}", "machine": f"{os.cpu_count()} x {platform.machine()}"} | figures
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    print("\n".join(table(figures)))


if __name__ == "__main__":
    main()
