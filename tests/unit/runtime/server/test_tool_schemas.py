"""Tools of a forced call: as many as may be offered are compiled, and an error names the one that it comes from."""

import json
from functools import partial
from pathlib import Path

from octavo_runtime.protocol.messages import RequestError
from octavo_runtime.server.generation.chat_prompt import chat_form_field
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.refusal import refusal
from octavo_runtime.server.http.errors import error_message
from octavo_runtime.server.tools.grammar import calls
from octavo_runtime.server.tools.syntax import SYNTAXES
from octavo_runtime.server.tools.tool import MOST_TOOLS
from octavo_runtime.structured.compiler import MAX_BYTES
from octavo_runtime.structured.json_schema import adapt

SCHEMAS = json.loads((Path(__file__).parents[1] / "structured" / "schemas" / "realistic.json").read_text())
TOOLS = [{"type": "function", "function": {"name": f"tool_{number}"}} for number in range(4)]


def request(**asked):
    return ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "?"}], tools=TOOLS, **asked)


def test_as_many_tools_as_may_be_offered_fit_a_grammar():
    """With descriptions of 4,000 characters, which are no part of it."""
    schemas = {}
    for number in range(MOST_TOOLS):
        schema = SCHEMAS[number % len(SCHEMAS)]["schema"]
        schemas[f"tool_{number}"] = adapt({**schema, "description": "x" * 4000}).schema
    assert len(calls(SYNTAXES["hermes"], schemas, parallel=True)) < MAX_BYTES // 2


def test_a_line_of_the_grammar_leads_to_its_tool():
    schemas = {f"tool_{number}": {"type": "object", "title": f"number {number}"} for number in range(4)}
    for number, line in enumerate(calls(SYNTAXES["llama3"], schemas, parallel=True).splitlines(), start=1):
        told = chat_form_field(request(tool_choice="required"), None, number)
        if "%json" in line:
            assert f"number {told.split('.')[1]}" in line
        elif number <= 3:
            assert told == "tools"


def test_what_does_not_compile_is_told_by_its_tool():
    reason = "does not compile: at 7(14): failed to compile JSON schema: Invalid type: nope"
    error = RequestError("invalid", reason, "structured_outputs.grammar")

    def told(body):
        found = refusal(error, partial(chat_form_field, body, body.answer_form()))
        return error_message(found), found.field

    field = "tools.1.function.parameters"
    assert told(request(tool_choice="required")) == (f"{field} does not compile: Invalid type: nope", field)
    named = {"type": "function", "function": {"name": "tool_3"}}
    assert told(request(tool_choice=named))[1] == "tools"  # the grammar of one tool has five lines
    form = {"guided_grammar": "start: x"}
    assert told(ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "?"}], **form)) == (
        f"guided_grammar {reason}",
        "guided_grammar",
    )
