"""The operator on a real API server, with the rights that the chart gives it. No node runs the pods: their status is
written by the tests, as a kubelet would."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from live import ROOT, Kubernetes, Operator, client, free_port, helm_program


@pytest.fixture(scope="session")
def kubernetes(api_server: Any) -> Iterator[Kubernetes]:
    helm = helm_program()
    api_server.kubectl("create", "namespace", "octavo-system")
    installed = subprocess.run(
        [helm, "install", "octavo", ROOT / "charts/octavo", "--namespace=octavo-system"],
        env=os.environ | {"KUBECONFIG": str(api_server.folder / "admin.kubeconfig")},
        capture_output=True,
        text=True,
    )
    assert installed.returncode == 0, installed.stderr
    with client(api_server) as api:
        yield Kubernetes(api_server.kubectl, api)


@pytest.fixture(scope="session")
def metrics_api_port() -> int:
    """Where the operator serves custom.metrics.k8s.io."""
    return free_port()


@pytest.fixture(scope="session")
def operator(api_server: Any, kubernetes: Kubernetes, metrics_api_port: int) -> Iterator[Operator]:
    token = kubernetes.kubectl("create", "token", "octavo-operator", "--namespace=octavo-system").strip()
    environment = {
        "OCTAVO_METRICS_API": "octavo-system/octavo-metrics-api",
        "OCTAVO_METRICS_API_PORT": str(metrics_api_port),
        "OCTAVO_PROPAGATE_LABELS": "team",
    }
    running = Operator(api_server.kubeconfig("operator", token), api_server.folder / "operator.log", **environment)
    running.start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log()
    assert "forbidden: User" not in running.log(), "it lacks a right"


@pytest.fixture
def name(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name of the test's own; what is called so is deleted at the end."""
    own = "s" + str(abs(hash(request.node.name)) % 10**8)
    yield own
    kubernetes.kubectl("delete", "llmservice", own, "--ignore-not-found", "--wait=false")
