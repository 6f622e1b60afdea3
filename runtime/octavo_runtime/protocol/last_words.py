"""Why this process is about to end, where its main thread waits in a call that nothing ends and cannot say so. Whoever
has a way to say it does (engine_process.pulse)."""

_said: list[str] = []


def leave(line: str) -> None:
    """The first line that is left stays."""
    _said.append(line)


def left() -> str:
    """Empty where there are none."""
    return _said[0] if _said else ""
