"""Command-line options made from the fields of a configuration model, so that no flag is written twice."""

import inspect
from collections.abc import Callable
from typing import Any, get_origin

import typer
from pydantic import BaseModel, ValidationError

from octavo_runtime.config import explain


class BadOption(ValueError):
    """An option out of bounds: one line that names it, its bound and its value."""


def with_options(*models: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command one option for each field of the models (`max_model_len` -> `--max-model-len`); the field
    `model` is the argument. The command is called with one validated instance for each model, after its own
    parameters.

    Options reach pydantic as text, so the models alone hold bounds and messages."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = list(inspect.signature(command).parameters.values())[: -len(models)]

        def run(**values: Any) -> Any:
            kept = {name: values.pop(name) for name in [parameter.name for parameter in own]}
            return command(*kept.values(), *(_build(model, values) for model in models))

        parameters = own + [_parameter(name, model) for model in models for name in model.model_fields]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


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
        annotation: Any = str
    else:
        flag = "--" + name.replace("_", "-")
        many = get_origin(field.annotation) is list
        annotation = list[str] if many else str | None
        default = typer.Option([] if many else None, flag, help=field.description, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
