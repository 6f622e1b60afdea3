"""What pydantic finds wrong with a body, as one error with field and reason apart."""

from typing import Any

import pytest
from pydantic import ValidationError

from octavo_runtime.server.anthropic.request import MessagesRequest
from octavo_runtime.server.generation.chat_request import chat_request
from octavo_runtime.server.http.errors import ApiError
from octavo_runtime.server.http.invalid_body import invalid_body

SAID = [{"role": "user", "content": "?"}]
TOOL = {"name": "a", "input_schema": {}}


def found(**fields: Any) -> tuple[str | None, Any]:
    with pytest.raises(ValidationError) as error:
        MessagesRequest.model_validate({"model": "m", "max_tokens": 1, "messages": SAID, **fields})
    told = invalid_body([{**one, "loc": ("body", *one["loc"])} for one in error.value.errors()])
    return told.field, told.reason


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"nobody": 1}, "nobody", "unknown field"),
        ({"max_tokens": None}, "max_tokens", "required"),
        ({"max_tokens": 0}, "max_tokens", "should be greater than or equal to 1, got 0"),
        ({"tools": [TOOL] * 129}, "tools", "must have at most 128 items, got 129"),
        ({"tools": [TOOL, TOOL | {"type": "odd"}]}, "tools.1.type", "not supported; leave it out"),
        ({"tools": [TOOL, {"name": "b"}]}, "tools.1.input_schema", "required"),
    ],
)
def test_field_and_reason(fields, field, reason):
    where, why = found(**fields)
    assert where == field
    assert why.startswith(reason)


def test_a_rule_over_several_fields_names_one():
    with pytest.raises(ApiError) as error:
        chat_request({"model": "m", "messages": SAID, "tool_choice": "required"})
    assert (error.value.field, error.value.reason) == ("tool_choice", "required needs tools, got none")
