"""A condition, as every object of Kubernetes bears them in its status, and as one of an LLMService is worked out."""

from typing import Any

Object = dict[str, Any]
Holding = tuple[bool | None, str, str]  # whether it holds, None where that is not known; reason, message


def condition_of(status: Object, type_: str) -> Object | None:
    """One condition of a status, None if it has none of that type."""
    return next((item for item in status.get("conditions", []) if item["type"] == type_), None)


def is_true(status: Object, type_: str) -> bool:
    """Whether a status has this condition, and it holds."""
    found = condition_of(status, type_)
    return found is not None and found["status"] == "True"


def words(condition: Object) -> str:
    """What a condition says, on one line."""
    return " ".join(str(condition.get("message", condition.get("reason", ""))).split())
