"""A call is told as finished only where it is whole: on three APIs, in each syntax, wherever a stop string or the token
limit cuts the answer, streamed or not."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.anthropic.objects import message_of
from octavo_runtime.server.anthropic.stream import message_events
from octavo_runtime.server.generation.chat_prompt import ChatPrompt
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.turn import ChatTurn, pieces, whole_answers
from octavo_runtime.server.openai.chat import chunks, complete
from octavo_runtime.server.responses.answer import answered
from octavo_runtime.server.responses.objects import new_response
from octavo_runtime.server.responses.request import ResponsesRequest
from octavo_runtime.server.responses.stream import ResponseStream
from octavo_runtime.server.tools.answer_style import AnswerStyle
from octavo_runtime.server.tools.syntax import SYNTAXES
from octavo_runtime.text.answers import CompletionOutput, Delta

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("weather", "now")]
PARIS, NOW = '{"a": "}<é", "b": [{}]}', "{}"
PIECE = 25  # characters of the answer that come at once; smaller pieces are the parser's own test


def written(syntax):
    """An answer of two calls, as the grammar of a forced one has it."""
    form = SYNTAXES[syntax].written
    calls = [
        form.written_call.replace("$name", name).replace("$arguments", text)
        for name, text in (("weather", PARIS), ("now", NOW))
    ]
    return form.written_open + form.written_separator.join(calls) + form.written_close


WRITTEN = {form.written: syntax for syntax, form in SYNTAXES.items()}.values()  # each form once
HEAD = "<|channel|>commentary to=functions.{} <|constrain|>json<|message|>"
ANSWERS = {
    **{f"{syntax} forced": (syntax, True, written(syntax)) for syntax in WRITTEN},
    "hermes": ("hermes", False, f"Let me look.\n{written('hermes')}"),
    "llama3": ("llama3", False, f"<|python_tag|>{written('llama3')}"),
    "mistral": ("mistral", False, f"[TOOL_CALLS]{written('mistral')}"),
    "harmony": (
        "harmony",
        False,
        f"{HEAD.format('weather')}{PARIS}<|call|><|start|>assistant{HEAD.format('now')}{NOW}",
    ),
    "mistral named": ("mistral", False, f"[TOOL_CALLS]weather[ARGS]{PARIS}[TOOL_CALLS]now[ARGS]{NOW}"),
}
CUTS = {"stop string": ("stop", "Rome"), "token limit": ("length", None)}


def turn(syntax, forced, text, reason, stop):
    """A chat turn whose answer is `text`, and ends for this reason."""
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": TOOLS, "stream": True}
    body |= {"tool_choice": "required" if forced else "auto"}
    body |= {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    answer = CompletionOutput(0, text, [], finish_reason=reason, stop_reason=stop)

    async def deltas():
        for start in range(0, len(text), PIECE):
            yield Delta(0, text[start : start + PIECE], [], None, None, None)
        yield Delta(0, "", [], None, reason, stop)

    answers = SimpleNamespace(best=lambda: [answer], all=[answer], cached_tokens=0, prompt_logprobs=None)
    ask = SimpleNamespace(prompt=[1], params=SamplingParams())
    generation = SimpleNamespace(deltas=deltas, answers=answers, ask=ask, tokens=len(text))
    style = AnswerStyle(calls=SYNTAXES[syntax], template_tells=True, thinking=None, channels=syntax == "harmony")
    model = SimpleNamespace(style=style, tokenizer=None, name="m")
    return ChatTurn(model, ChatCompletionRequest(**body), ChatPrompt([1], False, False, False), generation)


def finished_calls(text):
    """Of the two calls, the arguments that `text` has to their end."""
    if (end := text.find(PARIS)) < 0:
        return []
    return [PARIS, NOW] if NOW in text[end + len(PARIS) :] else [PARIS]


async def everything(stream):
    return [one async for one in stream]


def whole(given):
    """The whole answer, and its counts."""
    [answer], usage = asyncio.run(whole_answers(turn(*given)))
    return answer, usage


def whole_message(given):
    return message_of("m", *whole(given))


def streamed_chat(made):
    """Content, the arguments of each call, and the reason of the end."""
    content, calls, reason = "", [], None
    for chunk in asyncio.run(everything(chunks(made))):
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                if call.id is not None:
                    calls.append("")
                calls[call.index] += call.function.arguments or ""
    return content, calls, reason


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_cut_call_is_never_told_as_finished(name, cut):
    syntax, forced, text = ANSWERS[name]
    reason, stop = CUTS[cut]
    for length in range(len(text) + 1):
        check(text[:length], finished_calls(text[:length]), (syntax, forced, text[:length], reason, stop))


def check(text, finished, given):
    _, forced, _, reason, _ = given
    chat = asyncio.run(complete(turn(*given)))
    message, ended = chat.choices[0].message, chat.choices[0].finish_reason
    calls = [call.function.arguments for call in message.tool_calls]
    assert streamed_chat(turn(*given)) == (message.content or "", calls, ended), text
    assert calls[: len(finished)] == finished, text
    cut = len(calls) > len(finished)
    assert ended == ("tool_calls" if reason == "stop" and finished and not cut else reason), text
    if forced:
        assert not message.content, text
    check_messages(text, finished, given, chat)
    check_responses(text, finished, given, chat, cut=cut)


def check_messages(text, finished, given, chat):
    ended = chat.choices[0].finish_reason
    whole = whole_message(given)
    assert [block.input for block in whole.content if block.type == "tool_use"] == [json.loads(one) for one in finished]
    expected = {"tool_calls": "tool_use", "length": "max_tokens", "stop": "stop_sequence"}[ended]
    assert (whole.stop_reason, whole.stop_sequence) == (expected, "Rome" if ended == "stop" else None), text
    blocks, stopped, end = {}, [], None
    for event in asyncio.run(everything(message_events("m", pieces(turn(*given))))):
        match type(event).__name__:
            case "BlockStart" if event.content_block.type == "tool_use":
                blocks[event.index] = ""
            case "BlockDelta" if event.index in blocks:
                blocks[event.index] += event.delta.partial_json
            case "BlockStop" if event.index in blocks:
                stopped.append(blocks[event.index])
            case "MessageDelta":
                end = event.delta
    assert stopped == finished, text
    assert (end.stop_reason, end.stop_sequence) == (whole.stop_reason, whole.stop_sequence)


def check_responses(text, finished, given, chat, *, cut):
    reason = given[3]
    empty = new_response(ResponsesRequest(input="?"), "m")
    response = answered(empty, *whole(given))
    calls = [item for item in response.output if item.type == "function_call"]
    assert [call.arguments for call in calls if call.status == "completed"] == finished, text
    assert all(call.status == "incomplete" for call in calls[len(finished) :])
    expected = "max_output_tokens" if reason == "length" else "stop" if cut else None
    assert response.status == ("incomplete" if expected else "completed"), text
    assert (response.incomplete_details and response.incomplete_details.reason) == expected
    found = asyncio.run(everything(ResponseStream(empty).follow(pieces(turn(*given)))))
    assert [event.arguments for event in found if type(event).__name__ == "ArgumentsDone"] == finished, text
    last = found[-1]
    assert type(last).__name__ == ("Incomplete" if expected else "Completed")
    assert last.response.incomplete_details == response.incomplete_details
    told = [(item.arguments, item.status) for item in last.response.output if item.type == "function_call"]
    assert told == [(call.arguments, call.status) for call in calls]


@pytest.mark.parametrize("arguments", ["{'city': 1}", '{"a": <', "{city: Rome}"])
def test_what_is_no_json_is_no_whole_call(arguments):
    """The model ended by itself; on /v1/messages the call is not made with nothing."""
    text = f'<tool_call>\n{{"name": "now", "arguments": {arguments}}}\n</tool_call>'
    given = ("hermes", False, text, "stop", None)
    chat = asyncio.run(complete(turn(*given)))
    assert chat.choices[0].finish_reason == "stop"
    assert [call.function.arguments for call in chat.choices[0].message.tool_calls] == [arguments.rstrip("<")]
    assert all(block.type == "text" for block in whole_message(given).content)
    assert whole_message(given).stop_reason == "end_turn"
