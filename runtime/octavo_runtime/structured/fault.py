"""Where in a JSON schema the fault lies that llguidance found without saying where."""

import re
import time
from collections.abc import Callable
from typing import Any

from octavo_runtime.structured.json_schema import subschemas

ReasonOf = Callable[[dict[str, Any]], str | None]
"""Why a schema does not compile; None where it does."""

_SECONDS = 0.3  # of processor time for all tries
_MISSING = "Pointer"  # how the reason begins where a reference leads nowhere
_REQUIRED = re.compile(r"(?:required property '(?P<name>.+)'|required item|prefixItems.\d+.) is unsatisfiable")


def fault(schema: dict[str, Any], reason: str, reason_of: ReasonOf) -> tuple[str, str]:
    """The place of the innermost subschema that alone does not compile, its steps joined by dots, and its reason.
    `reason`: that of the whole schema."""
    definitions: dict[str, Any] = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    place, node, until = "", schema, time.process_time() + _SECONDS
    while True:
        required = _REQUIRED.search(reason)
        for step, child in subschemas(node):
            if not isinstance(child, dict) or (required and not _is_required(step, required["name"])):
                continue
            if time.process_time() > until:
                return place, reason
            found = reason_of({**definitions, **child})
            if found is not None and (found == reason or (required and not found.startswith(_MISSING))):
                # Alone, its references into what is around it would lead nowhere.
                place, node, reason = f"{place}.{step}" if place else step, child, found
                break
        else:
            return place, reason


def _is_required(step: str, name: str | None) -> bool:
    """Whether a step leads to the property of a name, or, without one, to an array's items."""
    return step == f"properties.{name}" if name else step.startswith(("items", "prefixItems"))
