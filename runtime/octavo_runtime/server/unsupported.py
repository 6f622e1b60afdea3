"""Fields that clients may send although they change nothing: those without effect here, and those of features that are
not supported, with the values that ask for nothing."""

from collections.abc import Mapping
from typing import Any

_WITHOUT_EFFECT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "parallel_tool_calls",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "suffix": (None, ""),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "service_tier": (None, "auto", "default"),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None,),
    "verbosity": (None,),
    "web_search_options": (None,),
}


def without_unsupported(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that matter. ValueError where one asks for what is not supported."""
    kept = {}
    for name, given in fields.items():
        if name in _WITHOUT_EFFECT:
            continue
        if name in _NEUTRAL:
            _require_neutral(name, given)
        else:
            kept[name] = given
    return kept


def _require_neutral(name: str, given: Any) -> None:
    neutral = _NEUTRAL[name]
    if not any(given == value and isinstance(given, bool) == isinstance(value, bool) for value in neutral):
        allowed = " or ".join(_as_json(value) for value in neutral if value is not None)
        remedy = f"leave it out or send {allowed}" if allowed else "leave it out"
        raise ValueError(f"{name}: not supported; {remedy}, got {given!r:.100}")


def _as_json(value: Any) -> str:
    return str(value).replace("'", '"') if not isinstance(value, str) else f'"{value}"'
