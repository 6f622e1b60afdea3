"""The command line's form of settings."""

from typing import Any, get_args

from octavo_runtime.config.engine import field_name


def engine_flags(options: dict[str, Any]) -> list[str]:
    """`octavo serve` flags for engine options given by either name: {"maxModelLen": 512, "logStats": False} ->
    ["--max-model-len", "512", "--no-log-stats"]."""
    flags = []
    for key, value in options.items():
        name = field_name(key)
        if isinstance(value, bool):
            flags.append(flag(name) if value else flag(name, negated=True))
        elif value is not None:
            flags += [flag(name), str(value)]
    return flags


def flag(name: str, *, negated: bool = False) -> str:
    """The command line's form of a field: `--max-model-len`; of a boolean's false: `--no-log-stats`."""
    return ("--no-" if negated else "--") + name.replace("_", "-")


def is_boolean(annotation: Any) -> bool:
    """Whether a field's annotation is bool, or bool or None."""
    return annotation is bool or bool in get_args(annotation)
