"""The JSON schema that an answer is to keep to, as a grammar can be made of it."""

import json
from typing import Any

from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.server.generation.answer_form import AnswerForm
from octavo_runtime.server.http.errors import invalid
from octavo_runtime.server.http.record import current_request
from octavo_runtime.structured.json_schema import UnsupportedSchema, adapt


def adapted_form(form: AnswerForm) -> dict[str, Any]:
    """That of a form in JSON; see adapted_schema. Raises InvalidParameter too."""
    return adapted_schema(form.field, _schema(form))


def adapted_schema(field: str, schema: dict[str, Any], where: str = "") -> dict[str, Any]:
    """A schema as llguidance takes it; what of it an answer may break is ignored as wishes are. `where` ends each
    error. Raises ApiError."""
    try:
        adapted = adapt(schema)
    except UnsupportedSchema as error:
        place = f"{field}.{error.place}" if error.place else field
        raise invalid(place, f"{error.reason}{where}") from None
    except RecursionError:
        raise invalid(field, f"must be nested less deep{where}") from None
    record = current_request()
    for place in adapted.ignored:
        if record.strict:
            raise invalid(f"{field}.{place}", f"no grammar keeps an answer to it; leave it out{where}")
        record.ignore(f"{field}.{place}")
    return adapted.schema


def _schema(form: AnswerForm) -> dict[str, Any]:
    if form.output.json is None:
        return {"type": "object"}
    try:
        schema = json.loads(form.output.json)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(form.field, f"is malformed: {error}") from None
    if not isinstance(schema, dict):
        raise InvalidParameter(form.field, f"must be an object, got {type(schema).__name__}")
    return schema
