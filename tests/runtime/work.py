"""How much Python a piece of code runs: a cost that no other process on the machine can change."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_run(function: Callable[[], object]) -> int:
    """How many lines a call runs, each turn of a loop or a comprehension counted, in this thread and below."""
    total = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal total
        total += event in ("line", "call")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return total
