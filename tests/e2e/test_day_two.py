"""`octavo check`, `octavo why` and `octavo bundle` as a user runs them beside kubectl."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from client import Client
from kube import Kube, llmservice
from patience import PATIENCE, eventually
from stand_in import engine, stand_in

pytestmark = pytest.mark.cluster


def octavo(kube: Kube, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "octavo_runtime", *words, f"--namespace={kube.namespace}"],
        env=os.environ | dict(kube.environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_service_that_is_well(kube: Kube, chat: str) -> None:
    done = octavo(kube, "check", chat, "--output=json")
    items = {(each["section"], each["name"]): each for each in told(done)["items"]}
    print(octavo(kube, "check", chat).stdout)
    assert [each for each in items.values() if each["verdict"] == "fail"] == []
    unseen = {name for name, each in items.items() if each["verdict"] == "unknown"}
    assert unseen <= {("availability", "autoscaling")}, "an autoscaler has no figures of new pods"
    assert done.returncode == 0
    for passed in (
        ("performance", "speed"),
        ("monitoring", "metrics"),
        ("availability", "probes"),
        ("security", "pods"),
        ("tests", "completion"),
        ("tests", "chat"),
        ("tests", "streaming"),
        ("tests", "refusal"),
        ("documents", "API reference"),
    ):
        assert items[passed]["verdict"] == "pass", items[passed]

    done = octavo(kube, "why", chat, "--for=2s")
    print(done.stdout)
    assert "Nothing is wrong" in done.stdout, done.stdout + done.stderr
    assert "1 of 1 pods answer; over 2 s" in done.stdout
    assert done.returncode == 0


def test_why_a_service_does_not_answer(kube: Kube, name: str) -> None:
    """Side by side, since each takes its time to come about."""
    troubles = {
        f"{name}-memory": (
            {
                "engine": {"kvCacheMemory": "64Mi"},
                "resources": {"cpu": "100m", "memory": "200Mi"},
                "podTemplate": {"spec": {"containers": [engine(command=["python3", "-c", "b'x' * 2**30"])]}},
            },
            "OOMKilled",
            "PodOutOfMemory",
            {"spec": {"resources": {"memory": "300Mi"}}},
        ),
        f"{name}-path": ({"model": {"uri": "file:///nowhere"}}, "CrashLoopBackOff", "ModelNotFound", None),
    }
    kube.apply(*(llmservice(each, **spec) for each, (spec, *_) in troubles.items()))
    try:
        for each, (_, reason, rule, change) in troubles.items():
            eventually(
                lambda each=each, reason=reason: kube.condition(each).get("reason") == reason,
                lambda each=each, reason=reason: f"{reason}: {kube.condition(each)}",
            )
            print(octavo(kube, "why", each, "--for=1s").stdout)
            done = octavo(kube, "why", each, "--for=1s", "--output=json")
            findings = {finding["rule"]: finding for finding in told(done)["findings"]}
            assert rule in findings, findings
            assert findings[rule]["change"] == change
            assert done.returncode == 1
    finally:
        kube.delete("llmservice", *troubles)


def test_why_requests_wait(kube: Kube, client: Client, name: str) -> None:
    kube.apply(llmservice(name, engine={"kvCacheMemory": "128Mi", "maxNumSeqs": 1}))
    kube.wait_ready(name)
    with client.load(kube.endpoint(name), "smollm2", workers=6, tokens=64) as load:
        load.wait(1)
        print(octavo(kube, "why", name, "--for=3s").stdout)
        said: dict[str, Any] = {}

        def few_sequences() -> dict[str, Any] | None:
            """Between two requests none runs, and nothing is said of them."""
            done = octavo(kube, "why", name, "--for=3s", "--output=json")
            said.update(told(done))
            found = [finding for finding in said["findings"] if finding["rule"] == "FewSequences"]
            return found[0] | {"exit": done.returncode} if found else None

        finding = eventually(few_sequences, lambda: f"FewSequences: {said}")
        load.stop()
    assert finding is not None
    assert finding["change"] == {"spec": {"engine": {"maxNumSeqs": 2}}}
    assert finding["exit"] == 1


def test_a_bundle_holds_what_support_needs_and_no_key(kube: Kube, name: str, tmp_path: Path) -> None:
    key = "correct-horse-battery-1"
    kube.apply(stand_in(name, env=[{"name": "HUB_TOKEN", "value": key}]))
    kube.wait_ready(name)
    done = octavo(kube, "bundle", name, f"--file={tmp_path / 'it.tar.gz'}")
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    with tarfile.open(tmp_path / "it.tar.gz") as archive:
        files = {
            each.name.removeprefix("it/"): content.read().decode()
            for each in archive
            if (content := archive.extractfile(each))
        }
    (pod,) = (each["metadata"]["name"] for each in kube.pods(name))
    wanted = {"about.json", "why.json", "llmservice.yaml", "owned/Deployment.yaml", "events.yaml", f"pods/{pod}.yaml"}
    assert wanted - files.keys() == set()
    assert any(each.startswith("operator/octavo-e2e-operator") and each.endswith(".log") for each in files)
    assert [each for each, text in files.items() if key in text] == []
    assert "[redacted]" in files["llmservice.yaml"]
