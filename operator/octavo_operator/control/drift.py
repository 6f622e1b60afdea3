"""Whether a live object still is what the operator last applied, and what others have written into it."""

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

from octavo_operator.api import GROUP
from octavo_operator.api.quantities import amount
from octavo_operator.cluster import REPAIR_MANAGER

DIGEST = f"{GROUP}/digest"

Object = dict[str, Any]
Path = tuple[str, ...]

# The parts of an object that are the operator's whole; labels, annotations and finalizers may be anybody's.
_OURS = ("spec", "data", "binaryData")
# What in them is somebody else's right: an autoscaler's number, a restart's mark, and what the API server allots.
_RIGHTS: set[Path] = {
    ("spec", "replicas"),
    ("spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"),
    ("spec", "clusterIP"),
    ("spec", "clusterIPs"),
    ("spec", "ipFamilies"),
    ("spec", "ipFamilyPolicy"),
    ("spec", "healthCheckNodePort"),
}


# What picks pods and nodes by their labels. The API server takes such a map as one field, and adds no default to it.
_SELECTORS = ("selector", "podSelector", "namespaceSelector", "labelSelector", "nodeSelector")
# Nor these parts of a NetworkPolicy's rules, whose lists it takes as one field, too.
_WITHOUT_DEFAULTS = (*_SELECTORS, "from", "to", "ipBlock", "endPort")


def stamp(desired: dict[str, Any]) -> dict[str, Any]:
    """The object with a digest of itself as an annotation: tells a field that is no longer wanted, which a comparison
    of the wanted fields cannot see."""
    digest = hashlib.sha256(json.dumps(desired, sort_keys=True).encode()).hexdigest()[:16]
    annotations = desired["metadata"].get("annotations", {}) | {DIGEST: digest}
    return desired | {"metadata": desired["metadata"] | {"annotations": annotations}}


def digest(item: Object) -> str | None:
    """Of what it was made from; None where it bears none."""
    found: str | None = (item["metadata"].get("annotations") or {}).get(DIGEST)
    return found


def holds(live: Any, desired: Any) -> bool:
    """Whether every wanted field has its wanted value. The API server adds defaults and writes quantities its own way;
    neither is a difference."""
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(key in live and holds(live[key], desired[key]) for key in desired)
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(live) == len(desired)
            and all(holds(has, wants) for has, wants in zip(live, desired, strict=True))
        )
    return bool(live == desired) or (
        isinstance(live, str) and isinstance(desired, str) and _same_quantity(live, desired)
    )


def _same_quantity(one: str, other: str) -> bool:
    try:
        return amount(one) == amount(other)
    except ValueError:
        return False


def repaired(live: Object, desired: Object, manager: str) -> Object | None:
    """The parts of an object without what others wrote into them; None where there is no such thing. `manager`: who
    applies. Items of keyed lists that are wanted and missing are put in, since a list without any may be refused.

    Who wrote what stands in metadata.managedFields, as a tree of fields: `f:NAME`, a field; `k:{...}`, the item of a
    list that has these keys; `v:...`, an item that is its own key. Defaults are nobody's, and stay."""
    mended = {part: copy.deepcopy(live[part]) for part in _OURS if part in live}
    for entry in live["metadata"].get("managedFields", []):
        if entry.get("subresource") or (entry["manager"] == manager and entry.get("operation") == "Apply"):
            continue
        # What the operator mended it wrote as a whole itself; others may add to it in the same moment, at each write.
        is_ours = entry["manager"] == REPAIR_MANAGER
        for part in mended.keys() & desired.keys():
            written = entry.get("fieldsV1", {}).get(f"f:{part}", {})
            _prune(mended[part], desired[part], written, (part,), knows_whole=not is_ours)
    changed = {part: value for part, value in mended.items() if value != live[part]}
    return changed or None


def _prune(live: Any, desired: Any, written: Object, path: Path, *, knows_whole: bool) -> None:
    """Take out of `live` what is `written` and not `desired`. knows_whole: also of fields that are written as one."""
    for step, below in written.items():
        kind, _, name = step.partition(":")
        if kind == "f" and isinstance(live, dict) and isinstance(desired, dict):
            here = (*path, name)
            if name not in live or here in _RIGHTS:
                continue
            if name in desired:
                if below:
                    _prune(live[name], desired[name], below, here, knows_whole=knows_whole)
                elif knows_whole:
                    _prune_whole(live[name], desired[name], of_labels=name in _SELECTORS)
            elif not any(right[: len(here)] == here for right in _RIGHTS):
                del live[name]
            else:
                _prune(live[name], {}, below, here, knows_whole=knows_whole)
        elif kind == "k" and isinstance(live, list) and isinstance(desired, list):
            _prune_item(live, desired, json.loads(name), below, path, knows_whole=knows_whole)
        elif kind == "v" and isinstance(live, list) and isinstance(desired, list):
            value = json.loads(name)
            if value in live and value not in desired:
                live.remove(value)


def _prune_whole(live: Any, desired: Any, *, of_labels: bool) -> None:
    """The same of a field that somebody wrote as one, of which no record says more. What is not desired in it may be a
    default; of labels it is not."""
    if isinstance(live, dict) and isinstance(desired, dict):
        for name in live.keys() - desired.keys():
            if of_labels or name in _WITHOUT_DEFAULTS:
                del live[name]
        for name in live.keys() & desired.keys():
            _prune_whole(live[name], desired[name], of_labels=of_labels or name in _SELECTORS)
    elif isinstance(live, list) and isinstance(desired, list) and len(live) == len(desired):
        for item, wanted in zip(live, desired, strict=True):
            _prune_whole(item, wanted, of_labels=of_labels)


def _prune_item(
    live: list[Any], desired: list[Any], keys: Object, below: Object, path: Path, *, knows_whole: bool
) -> None:
    item = next((each for each in live if _has(each, keys)), None)
    if item is None:
        return
    wanted = next((each for each in desired if _has(each, keys)), None)
    if wanted is not None:
        _prune(item, wanted, below, path, knows_whole=knows_whole)
        return
    live.remove(item)
    for each in desired:
        its_keys = {key: each[key] for key in keys if key in each}
        if not any(_has(other, its_keys) for other in live):
            live.append(copy.deepcopy(each))


def applied(live: Object, manager: str, path: Path) -> Any:
    """The part of an object at `path` as `manager` last applied it, by the records of who wrote what; what somebody
    else overwrote is missing. None where there is no such record."""
    trees = _written(live, path, lambda entry: _is_apply(entry, manager))
    value = live
    for name in path:
        value = value[name]
    return _picked(value, trees[0]) if trees else None


def edited_by_another(live: Object, manager: str, path: Path) -> bool:
    """Whether somebody else wrote into the part of an object at `path` what `manager` did not apply."""
    ours = _leaves(*_written(live, path, lambda entry: _is_apply(entry, manager)))
    theirs = _leaves(*_written(live, path, lambda entry: entry["manager"] not in (manager, REPAIR_MANAGER)))
    rights = {tuple(f"f:{name}" for name in right[len(path) :]) for right in _RIGHTS if right[: len(path)] == path}
    return bool(theirs - ours - rights)


def _is_apply(entry: Object, manager: str) -> bool:
    return bool(entry["manager"] == manager and entry.get("operation") == "Apply")


def _written(live: Object, path: Path, by: Callable[[Object], bool]) -> list[Object]:
    """The trees of the fields at `path` that somebody wrote."""
    found = []
    for entry in live["metadata"].get("managedFields", []):
        fields = entry.get("fieldsV1", {})
        for name in path:
            fields = fields.get(f"f:{name}") if fields else None
        if fields is not None and not entry.get("subresource") and by(entry):
            found.append(fields)
    return found


def _picked(value: Any, fields: Object) -> Any:
    """Of a value what stands in a tree of fields; a field with nothing below it is picked whole."""
    steps = [step for step in fields if step != "."]
    if isinstance(value, dict) and steps:
        below = {step.removeprefix("f:"): fields[step] for step in steps}
        return {name: _picked(item, below[name]) for name, item in value.items() if name in below}
    if isinstance(value, list) and steps:
        picked = []
        for item in value:
            for step in steps:
                kind, _, key = step.partition(":")
                if (kind == "k" and _has(item, json.loads(key))) or (kind == "v" and item == json.loads(key)):
                    picked.append(_picked(item, fields[step]))
        return picked
    return copy.deepcopy(value)


def _leaves(*trees: Object) -> set[Path]:
    """The ways to the fields of trees that have no field below them."""
    found = set()
    for tree in trees:
        for step, below in tree.items():
            found |= {(step, *rest) for rest in _leaves(below) or {()}} if step != "." else set()
    return found


def _has(item: Any, keys: Object) -> bool:
    return isinstance(item, dict) and all(item.get(key) == value for key, value in keys.items())
