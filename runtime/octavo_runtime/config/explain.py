"""What is wrong with a configuration, in one line."""

from pydantic import ValidationError


def explain(error: ValidationError, prefix: str = "") -> str:
    """One line that names each field, its bound and the value it got. prefix: of the fields' names."""
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "value"
        message = item["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        if item["type"] == "extra_forbidden":
            message = "unknown field"
        elif item["type"] != "missing" and "got " not in message:
            message += f", got {item['input']!r}"
        parts.append(f"{prefix}{field}: {message}")
    return "; ".join(parts)
