"""Lines of the README, as they stand there."""

import os
import subprocess

import pytest
import target
from kube import Kube
from paths import KUBECONFIG
from release import ROOT

pytestmark = pytest.mark.cluster


def test_one_line_lets_kubectl_reach_the_demos_cluster(kube: Kube, place: target.Target) -> None:
    if place.name != "own":
        pytest.skip("the cluster is not the project's own")
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("eval ")]
    assert len(lines) == 1
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    done = subprocess.run(
        ["bash", "-c", f'{lines[0]}\necho "$KUBECONFIG"\nkubectl get llmservices'],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(KUBECONFIG)
