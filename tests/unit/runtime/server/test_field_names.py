"""What each API calls a field of the chat request that its own became."""

import pytest

from octavo_runtime.protocol.reason import Mention, as_text
from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.server.anthropic import to_chat as messages
from octavo_runtime.server.anthropic.request import MessagesRequest
from octavo_runtime.server.http.errors import ApiError, error_message, invalid, openai_error
from octavo_runtime.server.http.record import RequestRecord, begin_request
from octavo_runtime.server.responses import to_chat as responses
from octavo_runtime.server.responses.request import ResponsesRequest


def message() -> MessagesRequest:
    tools = [{"type": "web_search_1", "name": "w"}, {"name": "a", "input_schema": {}}]
    said = [{"role": "user", "content": "?"}]
    return MessagesRequest.model_validate({"model": "m", "max_tokens": 1, "messages": said, "tools": tools})


def response() -> ResponsesRequest:
    inner = {"type": "function", "name": "a"}
    tools = [{"type": "web_search"}, {"type": "namespace", "name": "s", "tools": [inner]}]
    return ResponsesRequest.model_validate({"model": "m", "input": "?", "tools": tools})


@pytest.mark.parametrize(
    ("field", "in_messages", "in_responses"),
    [
        ("messages", "messages", "input"),
        ("messages.3.content", "messages", "input"),
        ("max_completion_tokens", "max_tokens", "max_output_tokens"),
        ("max_tokens", "max_tokens", "max_output_tokens"),
        ("response_format", "output_config.format", "text.format"),
        ("response_format.json_schema.schema", "output_config.format.schema", "text.format.schema"),
        ("response_format.json_schema.schema.a.b", "output_config.format.schema.a.b", "text.format.schema.a.b"),
        ("reasoning_effort", "output_config.effort", "reasoning.effort"),
        ("tool_choice", "tool_choice", "tool_choice"),
        ("tool_choice.function.name", "tool_choice.name", "tool_choice.name"),
        ("tools", "tools", "tools"),
        ("tools.0.function.name", "tools.1.name", "tools.1.tools.0.name"),
        ("tools.0.function.parameters.a", "tools.1.input_schema.a", "tools.1.tools.0.parameters.a"),
        ("temperature", "temperature", "temperature"),
    ],
)
def test_a_field_of_chat_by_the_clients_own_path(field, in_messages, in_responses):
    assert messages.field_name(message(), field) == in_messages
    assert responses.field_name(response(), field) == in_responses


def test_names_of_one_api_alone():
    assert messages.field_name(message(), "stop") == "stop_sequences"
    assert messages.field_name(message(), "continue_final_message") == "messages"
    assert responses.field_name(response(), "logprobs") == "include"
    assert responses.field_name(response(), "top_logprobs") == "top_logprobs"


def test_an_error_is_told_by_the_clients_names_and_stays_as_it_is():
    error = invalid("a.b", ("cannot be combined with ", Mention("c"), ", got a.b and c"), "odd")
    begin_request(RequestRecord(field_name=str.upper))
    assert error_message(error) == "A.B: cannot be combined with C, got a.b and c"
    assert openai_error(error)["error"]["param"] == "A.B"
    begin_request(RequestRecord())
    assert error_message(error) == "a.b: cannot be combined with c, got a.b and c"
    assert error_message(ApiError(503, "so it is")) == "so it is"


def test_a_wish_is_noted_by_the_clients_name():
    record = RequestRecord(field_name=str.upper)
    record.ignore("a.b")
    record.ignore("a.b")
    assert record.ignored == ["A.B"]


def test_a_parameters_error_has_field_and_reason_apart():
    error = InvalidParameter("n", ("must be at most ", Mention("beam_width"), " (2), got 3"))
    assert str(error) == "n must be at most beam_width (2), got 3"
    assert (
        as_text(error.reason, {"beam_width": "use_beam_search"}.__getitem__)
        == "must be at most use_beam_search (2), got 3"
    )
