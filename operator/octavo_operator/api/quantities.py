"""CPUs and bytes as Kubernetes writes them, checked as fields of a model."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from octavo_runtime.config.units import QUANTITY_PATTERN

_SUFFIXES = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip
_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,9})?"
CPU_PATTERN = rf"^{_NUMBER}(m|k|e[0-9])?$"
MEMORY_PATTERN = rf"^{_NUMBER}(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P|e[0-9]{{1,2}})?$"
MIN_MEMORY = "64Mi"


def amount(text: str) -> Decimal:
    """The number in any Kubernetes quantity, such as `500m`, `1.5`, `2Gi` or `4e9`; ValueError otherwise."""
    match = re.fullmatch(rf"({_NUMBER})(?:e([0-9]{{1,2}})|(n|u|m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?)", text)
    if match is None:
        raise ValueError(f"must be a quantity such as 500m or 2Gi, got {text!r}")
    number, _, exponent, suffix = match.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""])


def parse_cpu(text: str) -> float:
    """CPUs in a Kubernetes quantity such as `500m`, `2` or `1.5`; ValueError otherwise."""
    if not re.fullmatch(CPU_PATTERN, text):
        raise ValueError(f"must be a number of CPUs such as 500m, 2 or 1.5, got {text!r}")
    return float(amount(text))


def parse_memory(text: str) -> int:
    """Bytes in a Kubernetes quantity such as `512Mi`, `1.5Gi` or `2Pi`; ValueError otherwise."""
    if not re.fullmatch(MEMORY_PATTERN, text):
        raise ValueError(f"must be a quantity of bytes such as 512Mi or 2Gi, got {text!r}")
    return int(amount(text))


def in_runtime_notation(text: str) -> str:
    """The same number of bytes, as `octavo serve` reads it."""
    return text if re.fullmatch(QUANTITY_PATTERN, text) else str(parse_memory(text))


def milli(value: float | Decimal) -> str:
    """A number as a quantity, to the thousandth: `4`, `0` or `2500m`."""
    thousandths = round(value * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def as_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be a quantity such as 500m or 2Gi, got {value!r}")
    return str(value)


def _positive_cpu(text: str) -> str:
    if parse_cpu(text) <= 0:
        raise ValueError(f"must be more than 0, got {text!r}")
    return text


def _positive_memory(text: str) -> str:
    if parse_memory(text) <= 0:
        raise ValueError(f"must be more than 0, got {text!r}")
    return text


def _enough_memory(text: str) -> str:
    if 0 < parse_memory(text) < parse_memory(MIN_MEMORY):
        raise ValueError(f"must be at least {MIN_MEMORY}, with its unit, got {text!r}")
    return text


# BeforeValidator stands after the pattern (it still runs first), else the pattern is missing from the schema.
Cpu = Annotated[str, Field(pattern=CPU_PATTERN), BeforeValidator(as_text), AfterValidator(_positive_cpu)]
Memory = Annotated[str, Field(pattern=MEMORY_PATTERN), BeforeValidator(as_text), AfterValidator(_positive_memory)]
PodMemory = Annotated[Memory, AfterValidator(_enough_memory)]
