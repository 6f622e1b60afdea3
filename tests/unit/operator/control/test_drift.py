"""What others wrote into an owned object is found by the records of who wrote what, and taken away."""

import json
from typing import Any

import pytest

from octavo_operator.cluster import REPAIR_MANAGER
from octavo_operator.control.drift import applied, edited_by_another, repaired

DESIRED = {
    "kind": "Deployment",
    "spec": {
        "template": {
            "metadata": {"annotations": {"a": "b"}},
            "spec": {"containers": [{"name": "engine", "image": "x:1", "env": [{"name": "HOME", "value": "/"}]}]},
        }
    },
}


def key(**keys: Any) -> str:
    return f"k:{json.dumps(keys)}"


def live(fields: dict[str, Any], manager: str = "kubectl-edit", **entry: Any) -> dict[str, Any]:
    """A Deployment with defaults filled in, all that a hand may add, and a record that says who wrote `fields`."""
    return {
        "kind": "Deployment",
        "metadata": {
            "name": "chat",
            "managedFields": [
                {"manager": "octavo", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
                {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": fields}} | entry,
            ],
        },
        "spec": {
            "replicas": 3,
            "paused": True,
            "progressDeadlineSeconds": 600,
            "template": {
                "metadata": {"annotations": {"a": "b", "kubectl.kubernetes.io/restartedAt": "now", "rogue": "1"}},
                "spec": {
                    "restartPolicy": "Always",
                    "priorityClassName": "high",
                    "containers": [
                        {
                            "name": "engine",
                            "image": "x:2",
                            "imagePullPolicy": "Always",
                            "env": [{"name": "HOME", "value": "/"}, {"name": "ROGUE", "value": "1"}],
                        },
                        {"name": "extra", "image": "bad"},
                    ],
                },
            },
        },
    }


def template(mended: dict[str, Any] | None) -> dict[str, Any]:
    assert mended is not None
    found: dict[str, Any] = mended["spec"]["template"]
    return found


def pod_fields(**fields: Any) -> dict[str, Any]:
    return {"f:template": {"f:spec": fields}}


def test_a_field_is_taken_away_and_defaults_stay() -> None:
    mended = repaired(live({"f:paused": {}}), DESIRED, "octavo")
    assert mended is not None
    assert "paused" not in mended["spec"]
    assert mended["spec"]["progressDeadlineSeconds"] == 600
    assert template(mended)["spec"]["priorityClassName"] == "high", "nobody is recorded as its writer"


@pytest.mark.parametrize(
    ("fields", "gone"),
    [
        ({"f:priorityClassName": {}}, "high"),
        ({"f:containers": {key(name="extra"): {".": {}, "f:image": {}, "f:name": {}}}}, "extra"),
        (
            {
                "f:containers": {
                    key(name="engine"): {"f:env": {key(name="ROGUE"): {".": {}, "f:name": {}, "f:value": {}}}}
                }
            },
            "ROGUE",
        ),
        ({"f:containers": {key(name="engine"): {"f:imagePullPolicy": {}}}}, "imagePullPolicy"),
    ],
)
def test_keyed_lists_are_gone_into(fields: dict[str, Any], gone: str) -> None:
    mended = repaired(live(pod_fields(**fields)), DESIRED, "octavo")
    assert gone not in json.dumps(template(mended))
    assert template(mended)["spec"]["containers"][0]["env"][0] == {"name": "HOME", "value": "/"}


def test_a_value_of_what_is_wanted_is_left_to_apply() -> None:
    fields = pod_fields(**{"f:containers": {key(name="engine"): {"f:image": {}}}})
    assert repaired(live(fields), DESIRED, "octavo") is None


@pytest.mark.parametrize(
    "fields",
    [
        {"f:replicas": {}},
        {"f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}}},
    ],
)
def test_rights_of_others_stay(fields: dict[str, Any]) -> None:
    assert repaired(live(fields), DESIRED, "octavo") is None


def test_an_annotation_of_the_pods_is_taken_away() -> None:
    mended = repaired(live({"f:template": {"f:metadata": {"f:annotations": {"f:rogue": {}}}}}), DESIRED, "octavo")
    assert set(template(mended)["metadata"]["annotations"]) == {"a", "kubectl.kubernetes.io/restartedAt"}


@pytest.mark.parametrize("entry", [{"subresource": "status"}, {"manager": "octavo", "operation": "Apply"}])
def test_what_controllers_and_the_operator_write_stays(entry: dict[str, Any]) -> None:
    assert repaired(live({"f:paused": {}}, **entry), DESIRED, "octavo") is None


def test_an_item_that_took_the_place_of_a_wanted_one_is_replaced() -> None:
    port = {"name": "http", "port": 80, "protocol": "TCP"}
    service = {
        "kind": "Service",
        "metadata": {
            "managedFields": [
                {
                    "manager": "kubectl-patch",
                    "operation": "Update",
                    "fieldsV1": {"f:spec": {"f:ports": {key(port=9999, protocol="TCP"): {".": {}, "f:port": {}}}}},
                }
            ]
        },
        "spec": {"clusterIP": "10.0.0.1", "ports": [port | {"port": 9999, "targetPort": "http"}]},
    }
    mended = repaired(service, {"kind": "Service", "spec": {"ports": [port]}}, "octavo")
    assert mended == {"spec": {"clusterIP": "10.0.0.1", "ports": [port]}}


@pytest.mark.parametrize("name", ["selector", "podSelector"])
def test_a_label_in_a_selector_is_taken_away(name: str) -> None:
    """The record says of it that the whole of it was written, and no more."""
    wanted = {"matchLabels": {"app": "chat"}} if name == "podSelector" else {"app": "chat"}
    rogue = {"matchLabels": {"app": "chat", "version": "v2"}} if name == "podSelector" else {"app": "chat", "x": "y"}
    written = {"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {"f:spec": {f"f:{name}": {}}}}
    selecting = {"metadata": {"managedFields": [written]}, "spec": {name: rogue, "type": "ClusterIP"}}
    assert repaired(selecting, {"spec": {name: wanted}}, "octavo") == {"spec": {name: wanted, "type": "ClusterIP"}}


def test_a_rule_of_a_list_that_is_one_field_has_its_own_selectors_and_defaults() -> None:
    peer = {"podSelector": {"matchLabels": {"app": "chat"}}}
    written = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:ingress": {}}}}
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "chat", "x": "y"}}}], "ports": [{"protocol": "TCP"}]}
    policy = {"metadata": {"managedFields": [written]}, "spec": {"ingress": [rule]}}
    assert repaired(policy, {"spec": {"ingress": [{"from": [peer], "ports": [{}]}]}}, "octavo") == {
        "spec": {"ingress": [{"from": [peer], "ports": [{"protocol": "TCP"}]}]}
    }


@pytest.mark.parametrize(
    "rogue",
    [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}, {"podSelector": {"matchLabels": {"a": "b"}}}],
)
def test_what_picks_others_in_a_rule_is_taken_away(rogue: dict[str, Any]) -> None:
    name = "namespaceSelector" if "podSelector" in rogue else "podSelector"
    peer = {name: {"matchLabels": {"app": "chat"}}}
    written = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:ingress": {}}}}
    policy = {"metadata": {"managedFields": [written]}, "spec": {"ingress": [{"from": [peer | rogue]}]}}
    wanted = {"spec": {"ingress": [{"from": [peer]}]}}
    assert repaired(policy, wanted, "octavo") == wanted


def test_what_is_added_to_the_operators_own_repair_is_not_taken_away_for_ever() -> None:
    """A webhook that others run may do so at each write."""
    written = {"manager": REPAIR_MANAGER, "operation": "Update", "fieldsV1": {"f:spec": {"f:selector": {}}}}
    selecting = {"metadata": {"managedFields": [written]}, "spec": {"selector": {"app": "chat", "x": "y"}}}
    assert repaired(selecting, {"spec": {"selector": {"app": "chat"}}}, "octavo") is None


def test_an_entry_of_a_map_is_taken_away() -> None:
    board = {
        "kind": "ConfigMap",
        "metadata": {
            "managedFields": [{"manager": "x", "operation": "Update", "fieldsV1": {"f:data": {"f:more": {}}}}]
        },
        "data": {"board.json": "{}", "more": "1"},
    }
    assert repaired(board, {"kind": "ConfigMap", "data": {"board.json": "{}"}}, "octavo") == {
        "data": {"board.json": "{}"}
    }


def applied_by(manager: str, fields: dict[str, Any], operation: str = "Apply") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:template": fields}}}


def test_what_was_applied_is_told_from_defaults_and_from_what_others_wrote() -> None:
    ours = {
        "f:spec": {
            "f:containers": {key(name="engine"): {".": {}, "f:name": {}, "f:args": {}}},
            "f:finalizers": {'v:"a"': {}},
        }
    }
    theirs = {"f:spec": {"f:containers": {key(name="engine"): {"f:image": {}}}}}
    restarted = {"f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}
    container = {"name": "engine", "args": ["--a"], "image": "x:2", "imagePullPolicy": "Always"}
    template = {"spec": {"containers": [container, {"name": "extra"}], "finalizers": ["a", "b"]}}
    live = {
        "metadata": {
            "managedFields": [applied_by("octavo", ours), applied_by("kubectl-rollout", restarted, "Update")],
        },
        "spec": {"template": template},
    }
    path = ("spec", "template")
    assert applied(live, "octavo", path) == {
        "spec": {"containers": [{"name": "engine", "args": ["--a"]}], "finalizers": ["a"]}
    }
    assert applied(live, "somebody", path) is None
    assert not edited_by_another(live, "octavo", path), "a restart is a right"
    live["metadata"]["managedFields"].append(applied_by("kubectl-edit", theirs, "Update"))
    assert edited_by_another(live, "octavo", path)
