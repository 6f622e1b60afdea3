"""Calls out of a model's text: what is a call, what stays content, and that it does not matter how the text is cut."""

import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octavo_runtime.server.reasoning.splitter import ReasoningSpan, ReasoningSplitter, left_open, tokens_within
from octavo_runtime.server.tools import arguments
from octavo_runtime.server.tools.call_parser import CallParser
from octavo_runtime.server.tools.channel_parser import ChannelParser, ChannelSpan
from octavo_runtime.server.tools.event import CallArguments, CallStart, Content, Thought
from octavo_runtime.server.tools.json_span import JsonSpan
from octavo_runtime.server.tools.parsers import parser_of
from octavo_runtime.server.tools.syntax import SYNTAXES, recognise
from octavo_runtime.server.tools.values import as_json, kinds_of, literal_json

FUNCTIONS = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "array", "items": {"type": "integer"}},
            "unit": {"$ref": "#/$defs/unit"},
            "wind": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "height": {"type": "number"},
        },
        "$defs": {"unit": {"enum": ["C", "F"]}},
    },
    "now": {"type": "object", "properties": {}},
}
PARIS = '{"city": "Paris, \\"}{<é>", "days": [1, {"a": null}]}'


def read(syntax, pieces, *, forced=False):
    """Content, and [name, arguments] of each call."""
    return read_all(syntax, pieces, forced=forced)[1:]


def read_all(syntax, pieces, *, forced=False):
    """Reasoning, content, and [name, arguments] of each call."""
    form = SYNTAXES[syntax]
    parser = CallParser(form.written, FUNCTIONS, forced=True) if forced else parser_of(form, FUNCTIONS)
    thought, content, calls = "", "", []
    for number, piece in enumerate(pieces):
        for event in parser.add(piece, finished=number == len(pieces) - 1):
            match event:
                case Thought(text):
                    thought += text
                case Content(text):
                    content += text
                case CallStart(call, name):
                    assert call == len(calls)
                    calls.append([name, ""])
                case CallArguments(call, text):
                    assert call == len(calls) - 1
                    calls[-1][1] += text
    return thought, content, calls


def hermes(name="get_weather", arguments=PARIS):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


V3_CALL = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
V31_CALL = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
KIMI_CALL = "<|tool_call_begin|>functions.{}:{}<|tool_call_argument_begin|>{}<|tool_call_end|>"


def deepseek(*calls):
    return "<｜tool▁calls▁begin｜>" + "\n".join(calls) + "<｜tool▁calls▁end｜>"


def kimi(*calls):
    return "<|tool_calls_section_begin|>" + "".join(calls) + "<|tool_calls_section_end|>"


ONE = [["get_weather", PARIS]]
TWO = [["get_weather", PARIS], ["now", "{}"]]

GLM = "<tool_call>{}\n{}</tool_call>"
GLM_ARGUMENT = "<arg_key>{}</arg_key>\n<arg_value>{}</arg_value>\n"
CODER = "<tool_call>\n<function={}>\n{}</function>\n</tool_call>"
CODER_ARGUMENT = "<parameter={}>\n{}\n</parameter>\n"
INVOKE = '<invoke name="{}">\n{}</invoke>\n'
INVOKE_ARGUMENT = '<parameter name="{}">{}</parameter>\n'
CITY = 'Paris, "}{<é>\n'
INVOKED = [("city", CITY + "\n"), ("days", '[1, {"a": null}]')]
OF_PARIS = [("city", CITY), ("days", '[1, {"a": null}]')]
TAGGED_ONE = [["get_weather", '{"city": "Paris, \\"}{<é>\\n", "days": [1, {"a": null}]}']]
TAGGED_TWO = [*TAGGED_ONE, ["now", "{}"]]


def tagged(call, argument, name="get_weather", arguments=OF_PARIS):
    return call.format(name, "".join(argument.format(key, value) for key, value in arguments))


def minimax(*calls):
    return "<minimax:tool_call>\n" + "".join(calls) + "</minimax:tool_call>"


def message(channel, text, end="<|end|>", start="<|start|>assistant"):
    return f"{start}<|channel|>{channel}<|message|>{text}{end}"


FIRST = {"start": ""}  # the prompt ends with the beginning of a message
HARMONY_CALL = message("commentary to=functions.get_weather <|constrain|>json", PARIS, "<|call|>")

READ = [
    ("hermes", hermes(), "", ONE),
    ("hermes", f"\n{hermes()}\n{hermes('now', '{}')}\n", "", TWO),
    ("hermes", f"Let me look.\n\n{hermes()}\n", "Let me look.", ONE),
    ("hermes", f"{hermes()}\nDone.", "Done.", ONE),
    ("hermes", hermes().removesuffix("call>"), "", ONE),
    ("hermes", "No call at all, 1 < 2, <tool, <tool_calls\n", "No call at all, 1 < 2, <tool, <tool_calls\n", []),
    ("hermes", hermes().removesuffix("\n</tool_call>"), "", ONE),
    ("hermes", hermes().replace("}\n</", "\n</"), "", ONE),  # the last brace is missing
    ("hermes", '<tool_call>{"arguments": {"a":1}, "name": "now"}</tool_call>', "", [["now", '{"a": 1}']]),
    ("hermes", f'<tool_call>{{"name": "now", "arguments": {PARIS}, "id": "x"}}</tool_call>', "", [["now", PARIS]]),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', "", [["now", "{}"]]),
    ("hermes", '<tool_call>{"name": "now", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [["now", '{"a": 1}']]),
    ("hermes", hermes().replace("\n</", '\n{"name": "now", "arguments": {}}\n</'), "", TWO),
    ("hermes", hermes("rm"), hermes("rm"), []),  # nobody offered that
    ("hermes", f"{hermes('rm')} {hermes()}", hermes("rm"), ONE),
    ("hermes", "<tool_call>\nno JSON</tool_call>", "<tool_call>\nno JSON</tool_call>", []),
    ("hermes", '<tool_call>\n{"name": "now", "argu', '<tool_call>\n{"name": "now", "argu', []),
    ("hermes", "a <tool_call>", "a <tool_call>", []),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": "cut of', "", [["now", '{"a": "cut of']]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": </tool_call>bye', "bye", [["now", '{"a": ']]),
    ("llama3", f'{{"name": "get_weather", "parameters": {PARIS}}}', "", ONE),
    ("llama3", f'<|python_tag|>{{"name": "get_weather", "parameters": {PARIS}}}', "", ONE),
    ("llama3", f'{{"name": "get_weather", "parameters": {PARIS}}}; {{"name": "now", "parameters": {{}}}}', "", TWO),
    ("llama3", '{"type": "function", "name": "now", "parameters": {}}', "", [["now", "{}"]]),
    ("llama3", '\n{"answer": 42} it is', '\n{"answer": 42} it is', []),
    ("llama3", 'So {"name": "now", "parameters": {}}', 'So {"name": "now", "parameters": {}}', []),
    ("llama3", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    ("mistral", f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}]', "", ONE),
    (
        "mistral",
        f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {PARIS}, "id": 1}}, {{"name": "now", "arguments": {{}}}}]',
        "",
        TWO,
    ),
    ("mistral", f"[TOOL_CALLS]get_weather[ARGS]{PARIS}[TOOL_CALLS]now[CALL_ID]abc123[ARGS]{{}}", "", TWO),
    ("mistral", f"So: [TOOL_CALLS]get_weather{PARIS}", "So:", ONE),
    ("mistral", f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}, ', "", ONE),
    ("mistral", "[TOOL_CALLS]rm[ARGS]{}", "[TOOL_CALLS]rm[ARGS]{}", []),
    ("mistral", "[TOOL_CALLS] []", "[TOOL_CALLS] []", []),
    ("mistral", "[1, 2]", "[1, 2]", []),
    ("deepseek_v3", deepseek(V3_CALL.format("get_weather", PARIS)), "", ONE),
    ("deepseek_v3", f'So:\n{deepseek(V3_CALL.format("get_weather", PARIS), V3_CALL.format("now", "{}"))}', "So:", TWO),
    ("deepseek_v3", deepseek(V3_CALL.format("now", "{}")).removesuffix("end｜>"), "", [["now", "{}"]]),
    ("deepseek_v3", deepseek(V3_CALL.format("now", "{}")) + "\nDone.", "Done.", [["now", "{}"]]),
    ("deepseek_v3", deepseek(V3_CALL.format("rm", "{}")), deepseek(V3_CALL.format("rm", "{}")), []),
    ("deepseek_v3", "<｜tool▁calls▁begin｜> none", "<｜tool▁calls▁begin｜> none", []),
    ("deepseek_v31", deepseek(V31_CALL.format("get_weather", PARIS), V31_CALL.format("now", "{}")), "", TWO),
    ("deepseek_v31", f'Hm. {deepseek(V31_CALL.format("now", "{}"))}', "Hm.", [["now", "{}"]]),
    ("kimi_k2", kimi(KIMI_CALL.format("get_weather", 0, PARIS)), "", ONE),
    ("kimi_k2", f'So.{kimi(KIMI_CALL.format("get_weather", 0, PARIS), KIMI_CALL.format("now", 1, "{}"))}', "So.", TWO),
    ("kimi_k2", kimi(KIMI_CALL.format("now", 12, "{}")).partition("<|tool_call_end|>")[0], "", [["now", "{}"]]),
    ("kimi_k2", kimi(KIMI_CALL.format("rm", 0, "{}")), kimi(KIMI_CALL.format("rm", 0, "{}")), []),
    ("glm45", tagged(GLM, GLM_ARGUMENT), "", TAGGED_ONE),
    ("glm45", f"So.\n{tagged(GLM, GLM_ARGUMENT)}\n{GLM.format('now', '')}\nDone.", "So.Done.", TAGGED_TWO),
    ("glm45", "<tool_call>now</tool_call>", "", [["now", "{}"]]),
    ("glm45", tagged(GLM, GLM_ARGUMENT, "rm"), tagged(GLM, GLM_ARGUMENT, "rm"), []),
    ("glm45", '<tool_call>{"name": "now"}</tool_call>', '<tool_call>{"name": "now"}</tool_call>', []),
    ("glm45", "1 <tool_call", "1 <tool_call", []),
    ("glm45", "<tool_call>now oops", "<tool_call>now oops", []),
    ("glm45", "<tool_call>now\n<arg_key>a</arg_key>\n<arg_value>5</arg_value>\noops", "oops", [["now", '{"a": 5}']]),
    ("qwen3_coder", tagged(CODER, CODER_ARGUMENT), "", TAGGED_ONE),
    ("qwen3_coder", f"{tagged(CODER, CODER_ARGUMENT)}\n{CODER.format('now', '')}", "", TAGGED_TWO),
    ("qwen3_coder", tagged(CODER, CODER_ARGUMENT).removesuffix("\n</tool_call>"), "", TAGGED_ONE),
    ("qwen3_coder", "<tool_call>\n<function=rm>\n", "<tool_call>\n<function=rm>\n", []),
    (
        "qwen3_coder",
        tagged(CODER, CODER_ARGUMENT, arguments=[("unit", "C"), ("wind", "True"), ("height", "2.50")]),
        "",
        [["get_weather", '{"unit": "C", "wind": true, "height": 2.5}']],
    ),
    ("seed_oss", tagged(CODER, CODER_ARGUMENT).replace("tool_call>", "seed:tool_call>"), "", TAGGED_ONE),
    ("minimax_m2", minimax(tagged(INVOKE, INVOKE_ARGUMENT, arguments=INVOKED)), "", TAGGED_ONE),
    ("minimax_m2", f"So. {minimax(INVOKE.format('now', ''), INVOKE.format('now', ''))}", "So.", [TWO[1]] * 2),
    ("minimax_m2", minimax(INVOKE.format("rm", "")), minimax(INVOKE.format("rm", "")), []),
    ("pythonic", r"""[get_weather(city='Paris, "}{<é>', days=[1, {"a": None}])]""", "", ONE),
    (
        "pythonic",
        r"""<|python_start|>[get_weather(city="Paris, \"}{<é>", days=[1,{"a":None}]),now()]<|python_end|>""",
        "",
        TWO,
    ),
    ("pythonic", "So: <|python_start|>[now( )]<|python_end|> Done.", "So:Done.", [["now", "{}"]]),
    ("pythonic", "[rm(a=1)]", "[rm(a=1)]", []),
    ("pythonic", "[1, 2]", "[1, 2]", []),
    ("pythonic", "now() is it", "now() is it", []),
    ("pythonic", "[now(5)]", "[now(5)]", []),
    (
        "pythonic",
        "[now(a=-1.5, b=(True, None), c=no thing)]",
        "",
        [["now", '{"a": -1.5, "b": [true, null], "c": "no thing"}']],
    ),
    ("harmony", message("final", "Yes.", "<|return|>", **FIRST), "Yes.", []),
    ("harmony", message("analysis", "Hm.", **FIRST) + HARMONY_CALL, "", ONE),
    ("harmony", f"{message('commentary', 'Let me look.', **FIRST)}{HARMONY_CALL}", "Let me look.", ONE),
    ("harmony", f"{message('commentary', 'Let me.', **FIRST)}{message('final', 'Yes.')}", "Let me.\n\nYes.", []),
    ("harmony", f" to=functions.now<|channel|>commentary json<|message|><|call|>{HARMONY_CALL}", "", TWO[::-1]),
    ("harmony", "Yes, no head. <|end|", "Yes, no head. <|end|", []),
    (
        "harmony",
        message("commentary to=functions.rm", "{}", "", start=""),
        "<|channel|>commentary to=functions.rm<|message|>{}",
        [],
    ),
    ("harmony", "<|channel|>comment", "", []),
    ("harmony", "<|start|> to=functions.rm<|message|>{}", "<|start|> to=functions.rm<|message|>{}", []),
    ("harmony", f"<|start|>{'long ' * 200}<|message|>", f"<|start|>{'long ' * 200}<|message|>", []),
]  # fmt: skip


@pytest.mark.parametrize(("syntax", "text", "content", "calls"), READ)
def test_whole_and_character_by_character(syntax, text, content, calls):
    assert read(syntax, [text]) == (content, calls)
    assert read(syntax, [*text]) == (content, calls)


@pytest.mark.parametrize("syntax", list(SYNTAXES))
def test_calls_as_the_grammar_writes_them(syntax):
    form = SYNTAXES[syntax].written
    calls = [form.written_call.replace("$name", name).replace("$arguments", arguments) for name, arguments in TWO]
    text = form.written_open + form.written_separator.join(calls) + form.written_close
    assert read(syntax, [text], forced=True) == ("", TWO)


def test_arguments_go_out_as_they_come():
    parser = CallParser(SYNTAXES["hermes"], FUNCTIONS)
    assert parser.add('<tool_call>\n{"name": "now", "arguments": {"a"') == [
        CallStart(0, "now"),
        CallArguments(0, '{"a"'),
    ]
    assert parser.add(': "b') == [CallArguments(0, ': "b')]


HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "analysis", "final", " to=functions.now", "<|call|>"]

# Pieces of what the parsers look at, in any order, and cut anywhere.
FRAGMENTS = [
    *HARMONY, "<|python_start|>", "<|python_end|>", "[now(", "a=", ")", "<arg_key>", "a", "</arg_key>", "<arg_value>",
    "</arg_value>", "<function=now>", "<parameter=a>", "</parameter>", "</function>", "<minimax:tool_call>",
    '<invoke name="now">', '<parameter name="a">', "</invoke>", "</minimax:tool_call>",
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "[ARGS]", "[CALL_ID]", *"[];,{}",
    '{"name": "now", "arguments": {}}', '{"name": "now", "parameters": {"a": "}<"}}', '{"name": "rm", "arguments": {}}',
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>", "```json",
    "<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>", "```",
    '"name"', ": ", "now", "{}", '"', "\\", "\n", " ", "text", "<", "é", "<think>", "</think>",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)


def cut(text, places):
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(edges)] or [""]


@pytest.mark.parametrize(
    ("syntax", "text"), [(syntax, text) for syntax, text, *_, calls in READ if calls and SYNTAXES[syntax].written]
)
def test_arguments_are_whole_where_the_call_is(syntax, text):
    """However the answer is cut, a call whose arguments read as JSON is one that the whole answer has."""
    *_, calls = read(syntax, [text])
    for end in range(len(text)):
        for made, whole in zip(read(syntax, [text[:end]])[1], calls, strict=False):
            assert made[0] == whole[0]
            assert made == whole or arguments.whole(made[1]) is None or arguments.whole(made[1]) == json.loads(whole[1])


@pytest.mark.parametrize(
    ("text", "thought", "content", "spans"),
    [
        (message("analysis", "Hm.", **FIRST) + message("final", "Yes.", ""), "Hm.", "Yes.", [(0, 40)]),
        (message("analysis", "cut of", "", **FIRST), "cut of", "", [(0, None)]),
        (
            message("analysis", "a", **FIRST) + message("commentary", "b") + message("analysis to=browser", "c"),
            "a\n\nc",
            "b",
            [(0, 38), (96, 163)],
        ),
    ],
)
def test_what_is_thought_in_channels(text, thought, content, spans):
    assert read_all("harmony", [text]) == read_all("harmony", [*text]) == (thought, content, [])
    parser = ChannelParser(())
    parser.add(text, finished=True)
    assert parser.thoughts == spans


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*HARMONY, *"ab<|"]), max_size=12).map("".join), st.lists(st.integers(0, 500)))
def test_the_span_of_analysis_is_what_comes_before_the_answer(text, places):
    span, parser, thought, behind = ChannelSpan(), ChannelParser(()), "", ""
    for piece in [*cut(text, places), ""]:
        for place, part in enumerate(span.add(piece, finished=False)):
            thought, behind = (thought + part, behind) if place == 0 else (thought, behind + part)
    rest = span.add("", finished=True)
    parser.add(text, finished=True)
    begins = len(text) if parser.answer_begins is None else parser.answer_begins
    assert (thought + rest[0], behind + rest[1]) == (text[:begins], text[begins:])


@pytest.mark.parametrize(
    ("schema", "text", "found"),
    [
        ({"type": "string"}, "5", '"5"'),
        ({"type": "integer"}, "5", "5"),
        ({"type": "number"}, "1e999", '"1e999"'),
        ({"type": ["string", "null"]}, "null", "null"),
        ({"type": ["string", "null"]}, "5", '"5"'),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "5", "5"),
        ({"enum": ["1", "2"]}, "1", '"1"'),
        ({"type": "boolean"}, "True", "true"),
        ({"type": "object"}, "{'a': (1, None)}", '{"a": [1, null]}'),
        ({"type": "object"}, "{1: 2}", '"{1: 2}"'),
        ({"type": "integer"}, "five", '"five"'),
        ({}, "[1]", "[1]"),
        ({}, "It is [1]", '"It is [1]"'),
        ({"$ref": "#/$defs/loop"}, "5", "5"),
        ({"type": "object"}, '{"a": "\\ud800"}', '{"a": "\\ud800"}'),
    ],
)
def test_an_argument_is_what_its_schema_says(schema, text, found):
    function = {"properties": {"a": schema}, "$defs": {"loop": {"$ref": "#/$defs/loop"}}}
    assert as_json(text, kinds_of(function, "a")) == found
    assert kinds_of({"properties": 5}, "a") is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_literals_become_json(value):
    assert json.loads(literal_json(repr(value))) == value


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(list(SYNTAXES)), TEXTS, st.lists(st.integers(0, 500)), st.booleans())
def test_cuts_do_not_matter(syntax, text, places, forced):
    whole = read(syntax, [text], forced=forced)
    assert read(syntax, cut(text, places), forced=forced) == whole
    assert read(syntax, [*cut(text, places), ""], forced=forced) == whole
    content, calls = whole
    if forced:
        assert not content, "a forced answer is nothing but calls"
    elif not calls and syntax != "harmony":
        assert content == text, "nothing is lost where nothing was called"


def split(pieces, *, opened):
    splitter = ReasoningSplitter(opened=opened)
    halves = [splitter.add(piece, finished=number == len(pieces) - 1) for number, piece in enumerate(pieces)]
    return "".join(half.reasoning for half in halves), "".join(half.answer for half in halves), splitter.length


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "answer", "length"),
    [
        ("<think>\nHm.\n</think>\n\nYes.\n", False, "Hm.", "Yes.\n", 20),
        ("\n<think>Hm.</think>Yes.", False, "Hm.", "Yes.", 19),
        ("Hm.\n</think>\n\nYes.", True, "Hm.", "Yes.", 12),
        ("<think>Hm.</think>Yes.", True, "Hm.", "Yes.", 18),
        ("<think>\n\n</think>\n\nYes.", False, "", "Yes.", 17),
        ("<think>cut of", False, "cut of", "", None),
        ("cut of </thi", True, "cut of </thi", "", None),
        ("Yes <think>no</think>", False, "", "Yes <think>no</think>", 0),
        ("  Yes", False, "", "  Yes", 0),
        ("<thin", False, "", "<thin", 0),
        ("", False, "", "", 0),
    ],
)
def test_reasoning(text, opened, reasoning, answer, length):
    assert split([text], opened=opened) == (reasoning, answer, length)
    if text:
        assert split([*text], opened=opened) == (reasoning, answer, length)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 500)), st.booleans())
@example("<think> a </think> <think>", [8, 9, 10], False)
def test_cuts_of_reasoning_do_not_matter(text, places, opened):
    assert split(cut(text, places), opened=opened) == split([text], opened=opened)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.lists(st.integers(0, 500)),
    st.booleans(),
)
def test_an_object_ends_where_json_says(value, places, ensure_ascii):
    text = json.dumps({"value": value}, ensure_ascii=ensure_ascii)
    span, end, ended = JsonSpan(), 0, False
    for piece in cut(text + " }]x", places):
        reach = span.add(piece)
        end += reach.length
        ended = reach.ended
        if ended:
            break
    assert ended
    assert end == len(text)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 500)), st.booleans())
@example("<think> a </think> <think>", [3, 8, 15], False)
@example("<thin", [2], False)
def test_the_span_of_the_reasoning_is_what_the_splitter_takes(text, places, opened):
    """Wherever the text is cut, and all of it comes out."""
    span, thought, behind = ReasoningSpan(opened=opened), "", ""
    for piece in cut(text, places):
        for place, part in enumerate(span.add(piece, finished=False)):
            thought, behind = (thought + part, behind) if place == 0 else (thought, behind + part)
    rest = span.add("", finished=True)
    thought, behind = thought + rest[0], behind + rest[1]
    length = split([text], opened=opened)[2]
    assert (thought, behind) == ((text, "") if length is None else (text[:length], text[length:]))


def test_tokens_of_the_reasoning():
    class Letters:
        def token_bytes(self, token, *, skip_special_tokens):
            return [b"<think>", "é".encode()[:1], "é".encode()[1:], b"</think>", b"yes"][token]

    ids = [0, 1, 2, 3, 4, 4]
    assert tokens_within(Letters(), ids, len("<think>é</think>"), skip_special_tokens=True) == 4
    assert tokens_within(Letters(), ids, 0, skip_special_tokens=True) == 0
    assert tokens_within(Letters(), ids, 99, skip_special_tokens=True) == 6


def test_a_text_that_leaves_the_reasoning_open():
    assert left_open("<think>\nHm")
    assert not left_open("<think>\nHm</think>")
    assert not left_open("Hm")
    assert not left_open("The tag <think> opens it")


@pytest.mark.parametrize(
    ("template", "syntax"),
    [
        ("{{ '<tool_call>\\n' }}{{ tool_call.arguments | tojson }}", "hermes"),
        ("<tool_call>\n<function=name>\n<parameter=a>", "qwen3_coder"),
        ("<tool_call>{{ name }}\n<arg_key>", "glm45"),
        ("<minimax:tool_call>\n<invoke name=", "minimax_m2"),
        ("<seed:tool_call>", "seed_oss"),
        ("{{ '<|start|>assistant<|channel|>final<|message|>' }}", "harmony"),
        ("[func_name1(params_name1=params_value1), func_name2(params)]", "pythonic"),
        ("{{ '[TOOL_CALLS]' }}", "mistral"),
        ("{{ '<|python_tag|>' }}", "llama3"),
        ('Respond in the format {"name": function name, "parameters": dictionary}', "llama3"),
        ("{{ '<｜tool▁calls▁begin｜>' }}{{ '\\n```json\\n' }}", "deepseek_v3"),
        ("{{ '<｜tool▁calls▁begin｜>' }}", "deepseek_v31"),
        ("<|tool_calls_section_begin|>", "kimi_k2"),
        ("{{ message.content }}", None),
    ],
)
def test_the_syntax_that_a_template_teaches(template, syntax):
    assert recognise(template) == syntax
