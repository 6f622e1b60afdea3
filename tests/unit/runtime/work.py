"""How much Python a piece of code runs: a cost that no other process on the machine can change."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import octavo_runtime

_OURS = str(Path(octavo_runtime.__file__).parent)


def lines_run(function: Callable[[], object]) -> int:
    """How many lines of Octavo's own code a call runs in this thread, each turn of a loop counted."""
    total = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal total
        if not frame.f_code.co_filename.startswith(_OURS):
            return None  # such as what others have the garbage collector call
        total += event in ("line", "call")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return total
