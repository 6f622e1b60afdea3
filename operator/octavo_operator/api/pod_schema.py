"""Checks spec.podTemplate against Kubernetes' own types before anything is written, and mends what YAML mistakes for
another type where that can mean one thing only: `scrape: false` among annotations is the text "false"."""

import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

TYPES: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("pod_template.json").read_text())
ROOT = "V1PodTemplateSpec"
_MAX_SHOWN = 80


class Misfit(ValueError):
    """One line that names the field, what it must be and its value."""


def fitted(template: dict[str, Any], where: str, type_: str = ROOT) -> dict[str, Any]:
    """A pod template, or another object of `type_`, with every value of the type that Kubernetes wants; Misfit where a
    value can be of none. `where`: how messages name the template. A null stays: it takes a field away. A field that is
    not known stays too: the cluster may be newer than this operator, and says so itself if it is not."""
    result: dict[str, Any] = _fit(template, type_, where)
    return result


def _fit(value: Any, type_: str, where: str) -> Any:
    if value is None:
        return None
    if type_.endswith("[]"):
        if not isinstance(value, list):
            raise _misfit(where, "a list", value)
        return [_fit_item(item, type_[:-2], f"{where}[{index}]") for index, item in enumerate(value)]
    if type_ in TYPES:
        fields = TYPES[type_]
        return {
            name: _fit(item, fields[name], f"{where}.{name}") if name in fields else item
            for name, item in _map(value, where).items()
        }
    if type_ in ("strings", "quantities"):
        scalar = _string if type_ == "strings" else _quantity
        return {
            name: None if item is None else scalar(item, f"{where}.{name}") for name, item in _map(value, where).items()
        }
    return _SCALARS[type_](value, where)


def _fit_item(value: Any, type_: str, where: str) -> Any:
    if value is None:
        raise _misfit(where, "set: a null takes a field away, not an item of a list", value)
    return _fit(value, type_, where)


def _map(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _misfit(where, "a map", value)
    return value


def _string(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | str):
        return str(value)
    # A float may be a version: 1.10 is the number 1.1, and which of them was meant is not to be known.
    raise _misfit(where, 'text: put it in quotes, as in "1.10"' if isinstance(value, float) else "text", value)


def _quantity(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _misfit(where, "a quantity such as 500m or 2Gi", value)
    return str(value)


def _time(value: Any, where: str) -> str:
    try:
        if isinstance(value, str) and "T" in value and datetime.fromisoformat(value).tzinfo is not None:
            return value
    except ValueError:
        pass
    raise _misfit(where, "a time such as 2026-01-31T12:00:00Z", value)


def _integer(value: Any, where: str) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise _misfit(where, "a whole number", value) from None
    whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise _misfit(where, "a whole number", value)
    return int(value)


def _boolean(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise _misfit(where, "true or false", value)


def _int_or_string(value: Any, where: str) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _misfit(where, "a number or a name", value)
    return value


_SCALARS: dict[str, Callable[[Any, str], Any]] = {
    "str": _string,
    "datetime": _time,
    "int": _integer,
    "bool": _boolean,
    "intOrString": _int_or_string,
    "quantity": _quantity,
}


def _misfit(where: str, wanted: str, value: Any) -> Misfit:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 3] + "..."
    return Misfit(f"{where}: must be {wanted}, got {shown}")
