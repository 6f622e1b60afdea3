"""podTemplate is held to Kubernetes' own types before anything is written."""

from typing import Any

import pytest

from octavo_operator import api
from octavo_operator.api.pod_schema import Misfit, fitted


def parsed(template: dict[str, Any]) -> api.LLMService:
    metadata = {"namespace": "default", "name": "chat", "uid": "u1", "generation": 1}
    return api.parse({"metadata": metadata, "spec": {"model": {"uri": "builtin://smollm2"}, "podTemplate": template}})


def refusal(template: dict[str, Any]) -> str:
    with pytest.raises(api.InvalidSpec) as error:
        parsed(template)
    return str(error.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"metadata": {"annotations": {"a": False}}}, {"metadata": {"annotations": {"a": "false"}}}),
        ({"metadata": {"labels": {"v": 2}}}, {"metadata": {"labels": {"v": "2"}}}),
        ({"spec": {"nodeSelector": {"gpu": True}}}, {"spec": {"nodeSelector": {"gpu": "true"}}}),
        ({"spec": {"containers": [{"env": [{"value": 1}]}]}}, {"spec": {"containers": [{"env": [{"value": "1"}]}]}}),
        ({"spec": {"containers": [{"args": [8]}]}}, {"spec": {"containers": [{"args": ["8"]}]}}),
        ({"spec": {"terminationGracePeriodSeconds": "30"}}, {"spec": {"terminationGracePeriodSeconds": 30}}),
        ({"spec": {"priority": 5.0}}, {"spec": {"priority": 5}}),
        ({"spec": {"hostNetwork": "true"}}, {"spec": {"hostNetwork": True}}),
        (
            {"spec": {"containers": [{"resources": {"limits": {"cpu": 1.5, "memory": "1Gi"}}}]}},
            {"spec": {"containers": [{"resources": {"limits": {"cpu": "1.5", "memory": "1Gi"}}}]}},
        ),
        ({"spec": {"volumes": [{"emptyDir": None}]}}, {"spec": {"volumes": [{"emptyDir": None}]}}),
        ({"spec": {"fieldOfTomorrow": 1}}, {"spec": {"fieldOfTomorrow": 1}}),
    ],
)
def test_what_can_mean_one_thing_only_is_taken_so(written: dict[str, Any], meant: dict[str, Any]) -> None:
    assert fitted(written, "template") == meant


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            {"spec": {"terminationGracePeriodSeconds": "abc"}},
            ["spec.podTemplate.spec.terminationGracePeriodSeconds", "a whole number", '"abc"'],
        ),
        ({"spec": {"containers": {"engine": {}}}}, ["spec.podTemplate.spec.containers", "a list", '{"engine": {}}']),
        ({"spec": {"tolerations": {"key": "a"}}}, ["spec.podTemplate.spec.tolerations", "a list"]),
        ({"metadata": {"labels": ["a"]}}, ["spec.podTemplate.metadata.labels", "a map", '["a"]']),
        ({"metadata": {"labels": {"v": 1.1}}}, ["spec.podTemplate.metadata.labels.v", "quotes", "1.1"]),
        ({"spec": {"containers": ["engine"]}}, ["spec.podTemplate.spec.containers[0]", "a map", '"engine"']),
        ({"spec": {"containers": [None]}}, ["spec.podTemplate.spec.containers[0]", "null"]),
        ({"spec": {"containers": [{"command": "true"}]}}, ["spec.podTemplate.spec.containers[0].command", "a list"]),
        (
            {"metadata": {"creationTimestamp": "2026-01-31"}},
            ["spec.podTemplate.metadata.creationTimestamp", "a time such as 2026-01-31T12:00:00Z", '"2026-01-31"'],
        ),
        ({"spec": {"hostNetwork": 1}}, ["spec.podTemplate.spec.hostNetwork", "true or false", "1"]),
        (
            {"spec": {"containers": [{"livenessProbe": {"httpGet": {"port": True}}}]}},
            ["spec.podTemplate.spec.containers[0].livenessProbe.httpGet.port", "a number or a name", "true"],
        ),
    ],
)
def test_what_fits_no_type_is_refused_by_field_and_value(template: dict[str, Any], words: list[str]) -> None:
    said = refusal(template)
    assert [word for word in words if word not in said] == [], said
    assert "\n" not in said


def test_a_long_value_is_cut() -> None:
    with pytest.raises(Misfit) as error:
        fitted({"spec": {"containers": "x" * 1000}}, "template")
    assert len(str(error.value)) < 200


def test_the_mended_template_reaches_the_pods() -> None:
    service = parsed({"metadata": {"annotations": {"scrape": False}}})
    assert service.spec.pod_template.metadata == {"annotations": {"scrape": "false"}}
