"""A user's pod template over the operator's: by the keys that Kubernetes gives to lists."""

from typing import Any

from octavo_operator.resources.overlay import merge

MOUNTS = [{"name": "cache", "mountPath": "/var/cache"}, {"name": "tmp", "mountPath": "/tmp"}]


def container(**over: Any) -> dict[str, Any]:
    base = {
        "name": "engine",
        "args": ["serve", "m", "--port", "8000"],
        "env": [{"name": "HOME", "value": "/var/cache"}],
        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
        "volumeMounts": MOUNTS,
        "livenessProbe": {"httpGet": {"path": "/health/live"}, "periodSeconds": 5},
    }
    merged: dict[str, Any] = merge({"containers": [base]}, {"containers": [{"name": "engine"} | over]})
    assert [item["name"] for item in merged["containers"]] == ["engine"]
    found: dict[str, Any] = merged["containers"][0]
    return found


def test_two_mounts_of_one_volume_are_two() -> None:
    added = [{"name": "cache", "mountPath": "/a"}, {"name": "cache", "mountPath": "/b"}]
    assert container(volumeMounts=added)["volumeMounts"] == MOUNTS + added


def test_a_mount_path_is_taken_over() -> None:
    moved = [{"name": "models", "mountPath": "/var/cache", "readOnly": True}]
    assert container(volumeMounts=moved)["volumeMounts"][0] == moved[0]


def test_flags_are_added_and_a_command_line_replaces() -> None:
    assert container(args=["--no-ui"])["args"] == ["serve", "m", "--port", "8000", "--no-ui"]
    assert container(args=["serve", "x"])["args"] == ["serve", "x"]
    assert container(command=["python3"], args=["-c", "pass"])["args"] == ["-c", "pass"]


def test_a_volume_has_the_source_that_was_said_last() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "models"}}
    base = {"volumes": [{"name": "cache", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}
    merged = merge(base, {"volumes": [{"name": "cache"} | claim]})
    assert merged["volumes"] == [{"name": "cache"} | claim, {"name": "tmp", "emptyDir": {}}]
    larger = merge(base, {"volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}]})
    assert larger["volumes"][0] == {"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}


def test_a_variable_has_a_value_or_a_source() -> None:
    source = {"fieldRef": {"fieldPath": "status.podIP"}}
    assert container(env=[{"name": "HOME", "valueFrom": source}])["env"] == [{"name": "HOME", "valueFrom": source}]


def test_a_probe_has_one_way_to_ask() -> None:
    probe = container(livenessProbe={"exec": {"command": ["true"]}})["livenessProbe"]
    assert probe == {"exec": {"command": ["true"]}, "periodSeconds": 5}


def test_a_null_removes() -> None:
    assert "livenessProbe" not in container(livenessProbe=None)
    assert merge({"a": 1}, {"b": {"c": None, "d": [{"e": None}]}}) == {"a": 1, "b": {"d": [{}]}}


def test_tolerations_are_added() -> None:
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists"}
    spot = {"key": "spot", "operator": "Exists"}
    assert merge({"tolerations": [gpu]}, {"tolerations": [spot, gpu]}) == {"tolerations": [gpu, spot]}


def test_a_spread_replaces_those_over_the_same_topology() -> None:
    hosts = {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    strict = {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2}
    zones = {"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    base = {"topologySpreadConstraints": [hosts]}
    assert merge(base, {"topologySpreadConstraints": [zones]})["topologySpreadConstraints"] == [hosts, zones]
    assert merge(base, {"topologySpreadConstraints": [strict]})["topologySpreadConstraints"] == [strict]
    assert merge(base, {"topologySpreadConstraints": None}) == {}


def test_ports_are_told_apart_by_number_and_protocol() -> None:
    ports = container(
        ports=[{"name": "web", "containerPort": 8000}, {"name": "dns", "containerPort": 8000, "protocol": "UDP"}]
    )
    assert [port["name"] for port in ports["ports"]] == ["web", "dns"]


def test_merge_replaces_what_has_no_name() -> None:
    assert merge({"a": [1, 2], "b": {"c": 1}}, {"a": [3], "b": {"d": 2}}) == {
        "a": [3],
        "b": {"c": 1, "d": 2},
    }
