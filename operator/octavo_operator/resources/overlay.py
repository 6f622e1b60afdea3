"""Lays a user's pod template over the operator's, by the keys that Kubernetes itself gives to lists."""

from typing import Any

Object = dict[str, Any]

# Field that holds a list of objects -> what tells its items apart.
KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip",),
}
_KEY_DEFAULTS = {"protocol": "TCP"}
_ADDED = ("tolerations",)
# Kubernetes would keep a soft and a strict constraint of one topology side by side.
_SPREAD = "topologySpreadConstraints"

# Field -> those of its own fields of which an object may have one.
_HANDLERS = frozenset({"exec", "grpc", "httpGet", "sleep", "tcpSocket"})
_ONE_OF = {
    "env": frozenset({"value", "valueFrom"}),
    "startupProbe": _HANDLERS,
    "livenessProbe": _HANDLERS,
    "readinessProbe": _HANDLERS,
    "preStop": _HANDLERS,
    "postStart": _HANDLERS,
}


def merge(base: Any, over: Any, field: str = "") -> Any:
    """`over` laid on `base`, both the value of `field`: objects merge by key, a null removes; lists merge by their
    items' keys; all else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return _merge_objects(base, over, field)
    if isinstance(base, list) and isinstance(over, list):
        if field in _ADDED:
            return base + [item for item in over if item not in base]
        if field == _SPREAD:
            said = [item.get("topologyKey") for item in over]
            return [item for item in base if item["topologyKey"] not in said] + _without_nulls(over)
        if field in KEYS:
            return _merge_lists(base, over, field)
    return _without_nulls(over)


def _merge_objects(base: Object, over: Object, field: str) -> Object:
    one_of = (base.keys() | over.keys()) - {"name"} if field == "volumes" else _ONE_OF.get(field, frozenset())
    chosen = {key for key, value in over.items() if key in one_of and value is not None}
    kept = {key: value for key, value in base.items() if not (chosen and key in one_of - chosen)}
    result = {key: value for key, value in kept.items() if key not in over}
    for key, value in over.items():
        if value is None:
            continue
        if key == "args" and "args" in base and _adds(over):
            result[key] = base[key] + value
        else:
            result[key] = merge(base[key], value, key) if key in base else _without_nulls(value)
    return result


def _adds(container: Object) -> bool:
    """Whether args are further flags of the same program, and not a command line of their own."""
    return "command" not in container and all(word.startswith("-") for word in container["args"][:1])


def _merge_lists(base: list[Object], over: list[Object], field: str) -> list[Object]:
    laid = {_key(item, field): item for item in over}
    kept = [merge(item, laid.pop(_key(item, field)), field) if _key(item, field) in laid else item for item in base]
    return kept + [_without_nulls(item) for item in laid.values()]


def _key(item: Object, field: str) -> tuple[Any, ...]:
    return tuple(item.get(name, _KEY_DEFAULTS.get(name)) for name in KEYS[field])


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
