"""The form of an answer, by each of its names."""

from typing import Any

import pytest

from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.server.generation.answer_form import AnswerForm, guided
from octavo_runtime.server.generation.chat_request import CompletionRequest


def form(**asked: Any) -> AnswerForm | None:
    return CompletionRequest(model="m", prompt="a", **asked).answer_form()


@pytest.mark.parametrize(
    ("asked", "field", "output"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format", {"json_object": True}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "null"}}}},
            "response_format.json_schema.schema",
            {"json": '{"type": "null"}'},
        ),
        ({"structured_outputs": {"json": {}}}, "structured_outputs.json", {"json": "{}"}),
        ({"structured_outputs": {"json": '{ "a":1}'}}, "structured_outputs.json", {"json": '{ "a":1}'}),
        ({"structured_outputs": {"json_object": True}}, "structured_outputs.json_object", {"json_object": True}),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "structured_outputs.choice", {"choice": ("a", "b")}),
        ({"structured_outputs": {"grammar": "start: A"}}, "structured_outputs.grammar", {"grammar": "start: A"}),
        ({"guided_json": {"type": "null"}}, "guided_json", {"json": '{"type": "null"}'}),
        ({"guided_regex": "a+"}, "guided_regex", {"regex": "a+"}),
        ({"guided_choice": ["a"]}, "guided_choice", {"choice": ("a",)}),
        ({"guided_grammar": "start: A"}, "guided_grammar", {"grammar": "start: A"}),
    ],
)
def test_each_name_means_the_same_form(asked, field, output):
    assert form(**asked) == AnswerForm(field, StructuredOutput(**output))


def test_text_is_no_form():
    assert form(response_format={"type": "text"}) is None
    assert form(response_format={"type": "text"}, guided_regex="a") == AnswerForm(
        "guided_regex", StructuredOutput(regex="a")
    )


def test_a_schema_nested_too_deep_is_refused_and_no_crash():
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(InvalidParameter, match="guided_json must be nested less deep"):
        guided("json", schema)
