"""Durations and amounts of memory as people and Kubernetes write them."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTITY_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}

# Beyond any use, and within what timers and the arithmetic of memory can hold.
_LONGEST = 8760 * 3600  # seconds
_LARGEST = 2**60  # bytes

DURATION_PATTERN = r"^[0-9]+(ms|s|m|h)$"
QUANTITY_PATTERN = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G)?$"


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `500ms`, `300s`, `5m` or `1h`, at most a year; ValueError otherwise."""
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h)", text)
    if match is None:
        raise ValueError(f"must be a duration such as 500ms, 300s or 5m, got {text!r:.100}")
    seconds = float(match[1]) * _DURATION_UNITS[match[2]]
    if seconds > _LONGEST:
        raise ValueError(f"must be at most 8760h, got {text!r:.100}")
    return seconds


def parse_quantity(text: str) -> int:
    """Bytes in a Kubernetes quantity such as `512Mi` or `2Gi`, at most 1Ei; ValueError otherwise."""
    match = re.fullmatch(r"([0-9]+)(Ki|Mi|Gi|Ti|k|M|G)?", text)
    if match is None:
        raise ValueError(f"must be a quantity of bytes such as 512Mi or 2Gi, got {text!r:.100}")
    unit = _QUANTITY_UNITS[match[2] or ""]
    if float(match[1]) * unit > _LARGEST:
        raise ValueError(f"must be at most 1048576Ti, got {text!r:.100}")
    return int(match[1]) * unit


def gigabytes(size: float) -> str:
    """In words, to two digits."""
    return f"{size / 1e9:.2f} GB"


def _checked(parse: Any) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


Duration = Annotated[str, Field(pattern=DURATION_PATTERN), _checked(parse_duration)]
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN), _checked(parse_quantity)]
