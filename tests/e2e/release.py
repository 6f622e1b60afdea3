"""The chart, installed as a release of the tests' own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kube import Kube, Object
from patience import eventually

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "octavo"
NAME = "octavo-e2e"
OPERATOR = f"{NAME}-operator"
DEFINITION = "llmservices.serving.octavo.dev"


@dataclass(frozen=True)
class Release:
    """kube: the release's namespace. serves: the namespaces that its operator serves, which exist."""

    kube: Kube
    images: Mapping[str, str]
    serves: Sequence[str]

    def install(self) -> None:
        """Install the chart, or put it right; the definition may be there already, as another release's."""
        values = [f"--set-json=namespaces={json.dumps(list(self.serves))}", "--set=metricsApi.enabled=true"]
        for key, image in (("image", self.images["operator"]), ("runtime", self.images["demo"])):
            repository, _, tag = image.rpartition(":")
            values += [f"--set={key}.repository={repository}", f"--set={key}.tag={tag}"]
        self.kube.run(
            "helm", "upgrade", "--install", NAME, str(CHART), "--take-ownership", "--wait", "--timeout=8m", *values
        )

    def uninstall(self) -> None:
        """Uninstall it; the definition stays."""
        self.kube.run("helm", "uninstall", NAME, "--ignore-not-found", "--wait")

    def scale_operator(self, replicas: int) -> None:
        """Stop (0) or start (1) the operator; returns when it is gone or ready."""
        self.kube.kubectl("scale", f"deployment/{OPERATOR}", f"--replicas={replicas}")
        eventually(lambda: len(self.operators()) == replicas, f"{replicas} operators")
        if replicas:
            self.wait_operator()

    def wait_operator(self) -> None:
        """Wait until the operator is ready."""
        self.kube.kubectl("rollout", "status", f"deployment/{OPERATOR}", "--timeout=300s")

    def operators(self) -> list[Object]:
        """The operator's pods."""
        pods = self.kube.kubectl("get", "pods", "--selector=app.kubernetes.io/name=octavo-operator", "--output=json")
        found: list[Object] = json.loads(pods)["items"]
        return found


def put_definition_back(kube: Kube, before: Object | None) -> None:
    """Leave the definition as it was found: absent, or that of the release which it belongs to."""
    if before is None:
        kube.delete("crd", DEFINITION)
        return
    metadata = {key: before["metadata"][key] for key in ("name", "labels", "annotations")}
    document = {key: before[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": metadata}
    # In Helm's name: that release's next upgrade would meet a conflict with any other.
    options = ("--server-side", "--force-conflicts", "--field-manager=helm")
    kube.kubectl("apply", "--filename=-", *options, stdin=json.dumps(document))
