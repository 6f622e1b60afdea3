"""CPUs and bytes as Kubernetes writes them, checked as fields of a model."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from octavo_runtime.config import QUANTITY_PATTERN, parse_quantity

CPU_PATTERN = r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$"


def parse_cpu(text: str) -> float:
    """CPUs in a Kubernetes quantity such as `500m`, `2` or `1.5`; ValueError otherwise."""
    if not re.fullmatch(CPU_PATTERN, text):
        raise ValueError(f"must be a number of CPUs such as 500m, 2 or 1.5, got {text!r}")
    return int(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _positive_cpu(text: str) -> str:
    if parse_cpu(text) <= 0:
        raise ValueError(f"must be more than 0, got {text!r}")
    return text


def _positive_memory(text: str) -> str:
    if parse_quantity(text) <= 0:
        raise ValueError(f"must be more than 0, got {text!r}")
    return text


# BeforeValidator stands after the pattern (it still runs first), else the pattern is missing from the schema.
Cpu = Annotated[str, Field(pattern=CPU_PATTERN), BeforeValidator(str), AfterValidator(_positive_cpu)]
Memory = Annotated[str, Field(pattern=QUANTITY_PATTERN), BeforeValidator(str), AfterValidator(_positive_memory)]
