"""Reasoning and calls in the forms of the families that have their own, each chosen by the chat template: through the
official SDK, whole and streamed."""

import json

import httpx
import openai
import pytest

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
PARIS = {"city": 'Paris "\n<é>', "days": 2}
CALLS = [("get_weather", PARIS), ("now", {})]

TEMPLATE = """{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% if documents %}FORM{% endif %}\
{% for m in messages %}
{{ m.role }}: {{ m.content }}{% if m.thinking is defined %}({# message.thinking #}{{ m.thinking }}){% endif %}\
{% endfor %}{% if add_generation_prompt %}
assistant: {% endif %}"""

TAGS = "<function=get_weather>\n<parameter=city>\n{}\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>"
FORMS = {
    "GLM": (
        "<think></think><tool_call><arg_key>",
        f"<think>Hm.</think>\nLet me look.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>{PARIS['city']}"
        "</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
    ),
    "Qwen3-Coder": (
        "<think></think><tool_call><function=",
        f"<think>\nHm.\n</think>\n\nLet me look.\n\n<tool_call>\n{TAGS.format(PARIS['city'])}\n</tool_call>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
    ),
    "Seed-OSS": (
        "<seed:think></seed:think><seed:tool_call><function=",
        f"<seed:think>Hm.</seed:think>Let me look.<seed:tool_call>\n{TAGS.format(PARIS['city'])}\n<function=now>\n"
        "</function>\n</seed:tool_call>",
    ),
    "MiniMax M2": (
        "<think></think><minimax:tool_call>",
        "<think>\nHm.\n</think>\n\nLet me look.\n\n<minimax:tool_call>\n"
        f'<invoke name="get_weather">\n<parameter name="city">{PARIS["city"]}</parameter>\n'
        '<parameter name="days">2</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n'
        "</minimax:tool_call>",
    ),
    "Llama 4": (
        "[func_name1(params_name1=params_value1)]<think></think>",
        f"<think>Hm.</think>Let me look. <|python_start|>[get_weather(city={PARIS['city']!r}, days=2), now()]"
        "<|python_end|>",
    ),
    "Magistral": (
        "[THINK][/THINK][TOOL_CALLS]",
        f"[THINK]Hm.[/THINK]Let me look.[TOOL_CALLS]get_weather[ARGS]{json.dumps(PARIS)}[TOOL_CALLS]now[ARGS]{{}}",
    ),
    "gpt-oss": (
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>Let me look.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        f"{json.dumps(PARIS)}<|call|><|start|>assistant to=functions.now<|channel|>commentary<|message|>{{}}<|call|>",
    ),
}


@pytest.fixture(scope="module")
def servers(scripted_models, model_with_template):
    """The server of a family's form."""
    found = {}

    def server(family):
        if family not in found:
            template = model_with_template(TEMPLATE.replace("FORM", FORMS[family][0]))
            found[family] = scripted_models(template, "--served-name", "smollm2")
            found[family].wait_ready()
        return found[family]

    return server


def sdk(server):
    http = httpx.Client(trust_env=False)
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http)


def ask(client, answer, **asked):
    messages = [{"role": "user", "content": f"[say]{answer}[/say]"}]
    return client.chat.completions.create(model="smollm2", messages=messages, temperature=0, **asked)


@pytest.mark.parametrize("family", FORMS)
def test_a_family_reasons_and_calls_in_its_own_form(servers, family):
    answer = FORMS[family][1]
    with sdk(servers(family)) as client:
        made = ask(client, answer, tools=TOOLS)
        choice, details = made.choices[0], made.usage.completion_tokens_details
        calls = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
        assert (choice.message.reasoning, choice.message.content) == ("Hm.", "Let me look.")
        assert (calls, choice.finish_reason) == (CALLS, "tool_calls")
        assert 2 <= details.reasoning_tokens < made.usage.completion_tokens / 2
        assert streamed(ask(client, answer, tools=TOOLS, stream=True)) == ("Hm.", "Let me look.", CALLS, "tool_calls")


@pytest.mark.parametrize("family", FORMS)
def test_a_call_of_this_form_can_be_forced(servers, family):
    """The grammar writes JSON, which is read as a call."""
    written = '{"name": "now", "arguments": {}}'
    if family not in ("Magistral", "Llama 4", "gpt-oss"):
        written = f"<tool_call>\n{written}\n</tool_call>"
    with sdk(servers(family)) as client:
        choice = ask(client, f"[{written}]" if family == "Magistral" else written, tools=TOOLS, tool_choice="required")
        [call] = choice.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("now", "{}")


def streamed(chunks):
    reasoning, content, calls, reason = "", "", [], None
    for chunk in chunks:
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning", None) or ""
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                if call.index == len(calls):
                    calls.append((call.function.name, ""))
                name, arguments = calls[call.index]
                calls[call.index] = name, arguments + (call.function.arguments or "")
    return reasoning, content, [(name, json.loads(arguments)) for name, arguments in calls], reason


def prompt_of(server, **asked):
    """The prompt of a request, as text."""
    body = {"model": "smollm2", **asked}
    tokens = httpx.post(f"{server.url}/tokenize", json=body, trust_env=False).json()["tokens"]
    return httpx.post(f"{server.url}/detokenize", json={"model": "smollm2", "tokens": tokens}, trust_env=False).json()[
        "prompt"
    ]


def test_an_answer_in_channels_ends_with_its_final_message(servers):
    """Without tools: stop strings are for the answer, and a form of it is written in the final message."""
    server = servers("gpt-oss")
    answer = "<|channel|>analysis<|message|>Rome?<|end|><|start|>assistant<|channel|>final<|message|>Paris, not Rome."
    with sdk(server) as client:
        message = ask(client, answer, stop="Rome").choices[0].message
        assert (message.reasoning, message.content) == ("Rome?", "Paris, not ")
        hidden = ask(client, answer, extra_body={"include_reasoning": False}).choices[0].message
        assert (getattr(hidden, "reasoning", None), hidden.content) == (None, "Paris, not Rome.")
        form = {"type": "json_object"}
        assert ask(client, '{"a": "<|end|>"}', response_format=form).choices[0].message.content == '{"a": "<|end|>"}'
        with pytest.raises(openai.BadRequestError, match="cannot be combined with tools"):
            ask(client, "{}", response_format=form, tools=TOOLS)


def test_what_was_thought_reaches_a_template_of_channels(servers):
    said = {"role": "assistant", "content": "Let me look.", "reasoning": "Hm.", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]}  # fmt: skip
    messages = [{"role": "user", "content": "?"}, said, {"role": "tool", "tool_call_id": "call_1", "content": "noon"}]
    prompt = prompt_of(servers("gpt-oss"), messages=messages, tools=TOOLS)
    assert "assistant: None(Hm.\n\nLet me look.)" in prompt
    assert "<tool_call>" not in prompt, "the template tells of the tools itself"
