"""Whether a live object still is what the operator last applied."""

import hashlib
import json
from typing import Any

from octavo_operator.api import GROUP
from octavo_operator.quantities import parse_cpu
from octavo_runtime.config import parse_quantity

DIGEST = f"{GROUP}/digest"


def stamp(desired: dict[str, Any]) -> dict[str, Any]:
    """The object with a digest of itself as an annotation: tells a field that is no longer wanted, which a comparison
    of the wanted fields cannot see."""
    digest = hashlib.sha256(json.dumps(desired, sort_keys=True).encode()).hexdigest()[:16]
    annotations = desired["metadata"].get("annotations", {}) | {DIGEST: digest}
    return desired | {"metadata": desired["metadata"] | {"annotations": annotations}}


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
    for parse in (parse_cpu, parse_quantity):
        try:
            return parse(one) == parse(other)
        except ValueError:
            continue
    return False
