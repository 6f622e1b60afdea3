"""How the operator copes with many LLMServices: `python tools/many_services.py [--services 300]`.

Makes that many services without pods in a namespace of its own, on the cluster that kubectl reaches and whose operator
serves all namespaces, and prints how long they waited for a status, and the memory of the operator's pod. It leaves
nothing behind."""

import argparse
import json
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

NAMESPACE = "octavo-many-services"
PATIENCE = 600.0  # seconds


def kubectl(*words: str, stdin: str = "") -> str:
    """What kubectl prints; raises CalledProcessError."""
    return subprocess.run(["kubectl", *words], input=stdin, capture_output=True, text=True, check=True).stdout


def services() -> list[dict[str, Any]]:
    """The services of the namespace."""
    found: list[dict[str, Any]] = json.loads(kubectl("get", "llmservices", f"--namespace={NAMESPACE}", "-o=json"))[
        "items"
    ]
    return found


def told(service: dict[str, Any]) -> bool:
    """Whether the status is of the present generation."""
    return bool(service.get("status", {}).get("observedGeneration") == service["metadata"]["generation"])


def waited(service: dict[str, Any]) -> float:
    """Seconds from creation to the status, as the API server's clock has them: whole ones."""
    told_at = service["status"]["conditions"][0]["lastTransitionTime"]
    made_at = service["metadata"]["creationTimestamp"]
    return (datetime.fromisoformat(told_at) - datetime.fromisoformat(made_at)).total_seconds()


def memory() -> str:
    """Of the operator's pods, as metrics-server has it."""
    selector = "--selector=app.kubernetes.io/name=octavo-operator"
    lines = kubectl("top", "pods", "--all-namespaces", selector, "--no-headers").splitlines()
    return ", ".join(line.split()[3] for line in lines)


def measure(count: int) -> None:
    """Make the services and print what was seen."""
    spec = {"model": {"uri": "builtin://smollm2"}, "replicas": 0}
    items = [
        {
            "apiVersion": "serving.octavo.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": f"s{number}", "namespace": NAMESPACE},
            "spec": spec,
        }
        for number in range(count)
    ]
    print(f"memory of the operator before: {memory()}")
    start = time.monotonic()
    kubectl("create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    made = time.monotonic() - start
    while missing := sum(not told(service) for service in services()):
        if time.monotonic() - start > PATIENCE:
            sys.exit(f"{missing} of {count} services have no status after {PATIENCE:g} s")
        time.sleep(0.5)
    whole = time.monotonic() - start
    waits = sorted(waited(service) for service in services())
    print(f"{count} services: made in {made:.0f} s, the last had its status after {whole:.0f} s")
    print(f"from creation to status: median {waits[count // 2]:.0f} s, longest {waits[-1]:.0f} s")
    time.sleep(60)  # metrics-server looks now and then
    print(f"memory of the operator after: {memory()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=300, help="how many (default: 300)")
    options = parser.parse_args()
    kubectl("create", "namespace", NAMESPACE)
    try:
        measure(options.services)
    finally:
        kubectl("delete", "namespace", NAMESPACE)


if __name__ == "__main__":
    main()
