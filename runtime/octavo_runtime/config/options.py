"""Command-line options made from the fields of a configuration model, so that no flag is written twice."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_origin

import typer
from pydantic import BaseModel, ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.config.flags import flag, is_boolean


class BadOption(ValueError):
    """An option out of bounds: one line that names it, its bound and its value."""


def with_options(*models: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command one option for each field of the models (`max_model_len` -> `--max-model-len`, `log_stats` ->
    `--log-stats/--no-log-stats`); the field `model` is the argument. A parameter of the command's own by the name of a
    field takes its place. The command is called with one validated instance for each model, after its own parameters.

    Options reach pydantic as text, so the models alone hold bounds and messages."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = list(inspect.signature(command).parameters.values())
        own, built = signature[: -len(models)], signature[-len(models) :]

        def run(**values: Any) -> Any:
            kept = {parameter.name: values[parameter.name] for parameter in own}
            configurations = (_build(model, values) for model in models)
            return command(**kept, **dict(zip((parameter.name for parameter in built), configurations, strict=True)))

        taken = {parameter.name for parameter in own}
        parameters = own + [
            _parameter(name, model) for model in models for name in model.model_fields if name not in taken
        ]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def number(help_text: str, low: int, high: int) -> Any:
    """An option of a command's own with bounds, whose refusal tells the value too."""

    def check(parameter: typer.CallbackParam, value: float | None) -> float | None:
        if value is not None and not low <= value <= high:
            raise BadOption(f"{parameter.name}: must be from {low} to {high}, got {value}")
        return value

    return typer.Option(help=f"{help_text} From {low:,} to {high:,}.", callback=check)


def with_model_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with what follows `--model`, or stands behind `--model=`, as the argument that it is."""
    rest = list(arguments)
    for index, word in enumerate(rest):
        if word.startswith("--model="):
            return [word.removeprefix("--model="), *rest[:index], *rest[index + 1 :]]
        if word == "--model":
            return [*rest[index + 1 : index + 2], *rest[:index], *rest[index + 2 :]]
    return rest


def _build(model: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    given = {name: values[name] for name in model.model_fields if values[name] not in (None, [])}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise BadOption(explain(error)) from None


def _parameter(name: str, model: type[BaseModel]) -> inspect.Parameter:
    field = model.model_fields[name]
    if name == "model":
        default: Any = typer.Argument(..., help=field.description, show_default=False)
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=str)
    annotation: Any
    unset: list[str] | None = None
    if is_boolean(field.annotation):
        names, annotation = f"{flag(name)}/{flag(name, negated=True)}", bool | None
    elif get_origin(field.annotation) is list:
        names, annotation, unset = flag(name), list[str], []
    else:
        names, annotation = flag(name), str | None
    default = typer.Option(unset, names, help=field.description, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
