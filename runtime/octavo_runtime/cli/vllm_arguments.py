"""A command line in vLLM's spelling, in Octavo's."""

from collections.abc import Sequence

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.flags import flag, is_boolean
from octavo_runtime.config.options import BadOption, with_model_first
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.config.vllm_flags import ALIASES, FLAGS, Flag

_TRUTH = {"true": True, "false": False}
_FIELDS = EngineConfig.model_fields | ServerConfig.model_fields
_WITH_VALUE = {flag(name) for name, field in _FIELDS.items() if not is_boolean(field.annotation)}


def spelled(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of `octavo serve` with vLLM's flags in Octavo's spelling, and a line about each flag that needs
    nothing here. Raises BadOption for one that has no counterpart, with what to do instead."""
    rest, made, notes, has_model = with_model_first(arguments), list[str](), list[str](), False
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*made, word, *rest], notes
        name, value, known, is_on = _read(word)
        if not word.startswith("-"):
            has_model = True
            made.append(word)
        elif known is None:
            made.append(name if value is None else f"{name}={value}")
            if value is None and name in _WITH_VALUE and rest:
                made.append(rest.pop(0))
        elif known.kind == "refused":
            raise BadOption(f"{name}: is not taken here; {known.note}")
        elif known.values == 0:
            said = value if value is not None else rest.pop(0) if rest and rest[0].lower() in _TRUTH else "true"
            is_on = is_on == _TRUTH.get(said.lower(), True)
            if known.kind == "needless":
                notes.append(_switch_note(name, known, is_on))
            else:
                made.append(_switch(known.note or name, is_on))
        else:
            values = rest[:1] if value is None else [value]
            del rest[: value is None]
            # Before the model only one value counts, or the model would be taken for another.
            while known.several and has_model and rest and not rest[0].startswith("-"):
                values.append(rest.pop(0))
            if known.kind == "needless":
                notes.append(_value_note(name, known, values))
            elif not values:
                made.append(known.note or name)  # which is then refused for want of one
            else:
                spellings = [spelling for given in values for spelling in _spelling(name, known, given)]
                made += [part for spelling in spellings for part in (known.note or name, spelling)]
    return made, notes


def _read(word: str) -> tuple[str, str | None, Flag | None, bool]:
    """A word's name, the value after its `=`, the flag of vLLM that it is, and whether it is on."""
    name, equals, value = word.partition("=")
    for short, long in ALIASES.items():
        if name == short:
            name = long
        elif short == "-O" and word.startswith(short) and word[2:].isdecimal():  # -O3
            return long, word[2:], FLAGS[long], True
    if name.startswith("--"):
        name = name.replace("_", "-")
    positive = f"--{name.removeprefix('--no-')}" if name.startswith("--no-") else name
    known = FLAGS.get(name)
    if known is None and (opposite := FLAGS.get(positive)) is not None and opposite.values == 0:
        return positive, value if equals else None, opposite, False
    return name, value if equals else None, known, True


def _switch(name: str, is_on: bool) -> str:
    if is_on:
        return name
    return f"--{name.removeprefix('--no-')}" if name.startswith("--no-") else f"--no-{name.removeprefix('--')}"


def _spelling(name: str, known: Flag, value: str) -> tuple[str, ...]:
    try:
        return known.spell(value)
    except ValueError as error:
        raise BadOption(f"{name}: {error}") from None


def _switch_note(name: str, known: Flag, is_on: bool) -> str:
    if fault := known.fault(is_on):
        raise BadOption(f"{name}: {fault}")
    return f"{_switch(name, is_on)} needs nothing here: {known.note}"


def _value_note(name: str, known: Flag, values: Sequence[str]) -> str:
    if not values:
        raise BadOption(f"{name}: needs a value")
    if fault := known.fault(values[0]):
        raise BadOption(f"{name}: {fault}")
    return f"{name} {values[0]} needs nothing here: {known.note}"
