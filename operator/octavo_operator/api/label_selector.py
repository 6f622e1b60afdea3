"""Whether labels satisfy a selector in an object, as Kubernetes reads it."""

from collections.abc import Mapping
from typing import Any

Labels = Mapping[str, str]


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a label selector takes an object with these labels; an empty one takes all."""
    expressions = selector.get("matchExpressions") or []
    return carries(selector.get("matchLabels") or {}, labels) and all(holds(each, labels) for each in expressions)


def carries(wanted: Labels, labels: Labels) -> bool:
    """Whether all of `wanted` are among the labels."""
    return all(labels.get(key) == value for key, value in wanted.items())


def holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    """Whether one expression holds, of a label selector or of a node selector, which knows Gt and Lt too."""
    value, values = labels.get(str(expression.get("key"))), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or not value.isdecimal() or not str(values[0]).isdecimal():
                return False
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return True
