"""A bundle holds what support needs, and nothing that opens anything."""

import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from known import healthy

from octavo_operator.commands.bundle import files, name, write
from octavo_operator.commands.evidence import Evidence, Log
from octavo_operator.commands.redaction import redact, scrub

KEY = "correct-horse-battery-1"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def with_key() -> Evidence:
    """A service that has been given a key as a plain value, which then stands wherever it got to."""
    evidence = healthy(env=[{"name": "HUB_TOKEN", "value": KEY}, {"name": "LOG_DIR", "value": "/tmp/octavo"}])
    metadata = evidence.body["metadata"] | {"annotations": {APPLIED: f'{{"value":"{KEY}"}}'}, "managedFields": [{}]}
    event = {"involvedObject": {"kind": "Pod", "name": "chat-1"}, "reason": "Failed", "message": f"no such key {KEY}"}
    return replace(
        evidence,
        body=evidence.body | {"metadata": metadata},
        events={("Pod", "chat-1"): [event]},
        logs={"chat-1": Log(f"hub refused {KEY}\n", "died\n")},
    )


def test_a_key_in_the_environment_does_not_come_through() -> None:
    operator = {"deployment-octavo-system.yaml": {"spec": {}}, "octavo-operator-1.log": f"applied {KEY}\n"}
    found = files(with_key(), {"chat-1": "octavo_requests_running 0\n"}, operator, {"Secret": "missing right"})
    assert [each for each, text in found.items() if KEY in text] == []
    assert found["pods/chat-1.log"] == "hub refused [redacted]\n"
    service = yaml.safe_load(found["llmservice.yaml"])
    assert service["spec"]["env"] == [
        {"name": "HUB_TOKEN", "value": "[redacted]"},
        {"name": "LOG_DIR", "value": "/tmp/octavo"},
    ]
    assert service["metadata"].keys() & {"managedFields"} == set()
    assert service["metadata"]["annotations"] == {}


def test_it_holds_what_support_needs() -> None:
    found = files(with_key(), {"chat-1": "octavo_requests_running 0\n"}, {"octavo-operator-1.log": "x\n"}, {})
    assert found.keys() >= {
        "about.json",
        "why.json",
        "llmservice.yaml",
        "owned/Deployment.yaml",
        "owned/Service.yaml",
        "pods/chat-1.yaml",
        "pods/chat-1.log",
        "pods/chat-1.previous.log",
        "pods/chat-1.metrics",
        "events.yaml",
        "operator/octavo-operator-1.log",
    }


@pytest.mark.parametrize(
    ("document", "clean"),
    [
        ({"name": "API_KEY", "value": "abcdefgh"}, {"name": "API_KEY", "value": "[redacted]"}),
        ({"name": "X", "value": "a1b2c3d4e5f6a7b8c9d0e1f2"}, {"name": "X", "value": "[redacted]"}),
        ({"name": "HF_HOME", "value": "/var/cache/octavo"}, {"name": "HF_HOME", "value": "/var/cache/octavo"}),
        (
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        ),
        ({"args": ["--api-key=me=12345678"]}, {"args": ["--api-key=[redacted]"]}),
        ({"args": ["--api-key", "12345678"]}, {"args": ["--api-key", "[redacted]"]}),
        ({"args": ["--api-key-file", "/etc/octavo"]}, {"args": ["--api-key-file", "/etc/octavo"]}),
        ({"annotations": {"vault/password": "12345678"}}, {"annotations": {"vault/password": "[redacted]"}}),
        ({"value": "http://me:12345678@proxy:3128"}, {"value": "http://[redacted]@proxy:3128"}),
        ({"apiKeysSecret": {"name": "keys"}}, {"apiKeysSecret": {"name": "keys"}}),
    ],
)
def test_secrets_are_told_by_their_place_and_their_look(document: Any, clean: Any) -> None:
    assert redact(document)[0] == clean


def test_text_loses_what_has_the_form_of_a_key() -> None:
    assert scrub("Authorization: Bearer abcdefgh12345 at 2026-11-28 10:00:00", ()) == (
        "Authorization: Bearer [token] at 2026-11-28 10:00:00"
    )


def test_an_archive_is_for_its_owner_alone_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / name(healthy().body, "now")
    assert path.name == "octavo-bundle-default-chat-now.tar.gz"
    write(path, {"about.json": "{}"}, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["octavo-bundle-default-chat-now/about.json"]
    with pytest.raises(FileExistsError):
        write(path, {}, 0)
