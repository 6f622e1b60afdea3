"""Helm waits until a service is Ready by its present spec, and no longer than it takes to know that it will not be."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube import Kube, Object
from patience import PATIENCE
from stand_in import engine, stand_in

pytestmark = pytest.mark.cluster


class Chart:
    """A chart that holds one LLMService."""

    def __init__(self, kube: Kube, folder: Path, name: str) -> None:
        self._kube = kube
        self._folder = folder
        self._name = name
        (folder / "templates").mkdir()
        (folder / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "waits", "version": "0.1.0"}))

    def wait(self, document: Object, timeout: str) -> tuple[int, str]:
        """`helm upgrade --install --wait`: its exit code, and what it said."""
        (self._folder / "templates" / "service.yaml").write_text(yaml.safe_dump(document))
        words = ["upgrade", "--install", self._name, str(self._folder), "--wait", f"--timeout={timeout}"]
        with self._kube.process("helm", *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
            said, _ = running.communicate(timeout=PATIENCE)
        return running.returncode, said

    def uninstall(self) -> None:
        self._kube.run("helm", "uninstall", self._name, "--ignore-not-found")


def test_helm_waits_for_the_truth(kube: Kube, name: str, tmp_path: Path) -> None:
    chart = Chart(kube, tmp_path, name)

    def helm(timeout: str = "5m", **spec: Any) -> tuple[int, str]:
        return chart.wait(stand_in(name, **spec), timeout)

    try:
        done = helm()
        assert done[0] == 0, done
        assert kube.settled(name), "Ready, when it returns"
        done = helm(engine={"maxNumSeqs": 4})
        assert done[0] == 0, done
        assert kube.settled(name), "Ready by the edited spec"
        wrong = {"spec": {"containers": [engine()], "terminationGracePeriodSeconds": "abc"}}
        code, said = helm(podTemplate=wrong)
        assert code != 0
        assert "terminationGracePeriodSeconds: must be a whole number" in said or "Failed" in said, said
        code, said = helm("20s", image="octavo.local/none:1")
        assert code != 0, said
        done = helm(replicas=0)
        assert done[0] == 0, done
        assert kube.condition(name)["reason"] == "ScaledToZero"
    finally:
        chart.uninstall()
