"""kubectl with JSON answers, and waiting."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from patience import PATIENCE, eventually

Object = dict[str, Any]

SERVICE_LABEL = "serving.octavo.dev/service"


@dataclass(frozen=True)
class Kube:
    """One namespace of the cluster. `environment`: what kubectl and helm need."""

    environment: Mapping[str, str]
    namespace: str

    def within(self, namespace: str) -> "Kube":
        """The same cluster, another namespace."""
        return replace(self, namespace=namespace)

    def process(self, program: str, *words: str, **options: Any) -> "subprocess.Popen[str]":
        """Start kubectl or helm in this namespace."""
        command = [program, f"--namespace={self.namespace}", *words]
        return subprocess.Popen(command, env=os.environ | dict(self.environment), text=True, **options)

    def run(self, program: str, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl or helm to its end; stdout and stderr together."""
        with self.process(
            program, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as running:
            try:
                said, _ = running.communicate(stdin, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                running.kill()
                raise
        assert running.returncode == 0 or not check, f"{program} {' '.join(words[:6])}: {said}"
        return said

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl; stdout and stderr together."""
        return self.run("kubectl", *words, stdin=stdin, check=check)

    def apply(self, *documents: Object, check: bool = True) -> str:
        """`kubectl apply` of all documents at once; what it said."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        return self.kubectl("apply", "--filename=-", stdin=json.dumps(listed), check=check)

    def patch(self, name: str, spec: Object) -> None:
        """Merge `spec` into that of an LLMService, as an edit would."""
        self.kubectl("patch", "llmservice", name, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def delete(self, kind: str, *names: str, wait: bool = False) -> None:
        """Delete objects of one kind, where they exist."""
        self.kubectl("delete", kind, *names, "--ignore-not-found", f"--wait={json.dumps(wait)}")

    def get(self, kind: str, name: str) -> Object | None:
        """The object, None where there is none."""
        said = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        found: Object | None = json.loads(said) if said else None
        return found

    def all(self, kinds: str, service: str = "") -> list[Object]:
        """All objects of these kinds (`pods,services`), or those that belong to an LLMService."""
        selector = [f"--selector={SERVICE_LABEL}={service}"] if service else []
        found: list[Object] = json.loads(self.kubectl("get", kinds, *selector, "--output=json"))["items"]
        return found

    def endpoint(self, service: str) -> str:
        """Where a service's API is, by address: on a busy machine a name would try the cluster's DNS too."""
        found = self.get("service", service)
        assert found is not None, f"service {service}"
        return f"http://{found['spec']['clusterIP']}/v1"

    def pods(self, service: str) -> list[Object]:
        """The pods of an LLMService that are not being deleted."""
        return [pod for pod in self.all("pods", service) if "deletionTimestamp" not in pod["metadata"]]

    def condition(self, name: str, type_: str = "Ready") -> Object:
        """A condition of an LLMService; empty while there is none."""
        status = (self.get("llmservice", name) or {}).get("status", {})
        return next((item for item in status.get("conditions", []) if item["type"] == type_), {})

    def wait_ready(self, name: str) -> None:
        """Wait until an LLMService is Ready by its present spec."""
        eventually(lambda: self.settled(name), lambda: f"{name} is Ready: {self.condition(name)}")

    def settled(self, name: str) -> bool:
        """Whether every replica runs the present spec and answers."""
        service = self.get("llmservice", name)
        if service is None:
            return False
        conditions = {item["type"]: item for item in service.get("status", {}).get("conditions", [])}
        generation = service["metadata"]["generation"]
        return all(
            conditions.get(type_, {}).get("status") == wanted and conditions[type_]["observedGeneration"] == generation
            for type_, wanted in (("Ready", "True"), ("Progressing", "False"))
        )


def llmservice(name: str, **spec: Any) -> Object:
    """An LLMService document: the builtin model in little memory, unless `spec` says otherwise."""
    small = {
        "model": {"uri": "builtin://smollm2"},
        "engine": {"kvCacheMemory": "128Mi", "maxNumSeqs": 8},
        "resources": {"cpu": "100m", "memory": "1536Mi"},
        "rollout": {"drain": "30s"},
    }
    return {
        "apiVersion": "serving.octavo.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": small | spec,
    }
