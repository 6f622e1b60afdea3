"""What is asked of a server with the scripted engine, for the answers in recorded/. Each case is a path and a body; a
GENERAL one is an answer's text and what is asked about it, put to each API in that API's words."""

from typing import Any

Body = dict[str, Any]

THOUGHT = "<think>\nFirst the weather, then the time, voilà ✨.\n</think>\n\n"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": [1, 2]}}\n</tool_call>'
ODD_CALL = '<tool_call>\n{"arguments": {"zone": "CET"}, "name": "now"}\n</tool_call>'
CUT_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Par'
STRANGE_CALL = '<tool_call>\n{"name": "nobody", "arguments": {}}\n</tool_call>'
SAID = "It is fine. I shall look."
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

ANSWERS = {
    "text": (SAID, {}),
    "nothing": ("", {}),
    "reasoning": (THOUGHT + SAID, {}),
    "reasoning alone": (THOUGHT, {}),
    "reasoning cut": (THOUGHT + SAID, {"limit": 8}),
    "text cut": (SAID, {"limit": 3}),
    "stop string": (THOUGHT + SAID + " And more.", {"stop": ["I shall", "weather"]}),
    "call": (THOUGHT + SAID + CALL, {"tools": True}),
    "calls": (CALL + "\n" + ODD_CALL, {"tools": True}),
    "calls, text between": (SAID + CALL + "\nand then " + ODD_CALL + " so.", {"tools": True}),
    "calls, one at a time": (CALL + "\n" + ODD_CALL, {"tools": True, "parallel": False}),
    "call cut": (SAID + CALL, {"tools": True, "limit": 24}),
    "call that ends early": (SAID + CUT_CALL, {"tools": True}),
    "call met a stop string": (CALL, {"tools": True, "stop": ["ris"]}),
    "call of no tool": (SAID + STRANGE_CALL, {"tools": True}),
    "call without tools": (CALL, {}),
    "forced": (CALL, {"tools": True, "choice": "required"}),
    "forced by name": (CALL, {"tools": True, "choice": "weather"}),
    "forced, cut": (CALL, {"tools": True, "choice": "weather", "limit": 15}),
    "no call wanted": (CALL, {"tools": True, "choice": "none"}),
    "form": ('{"city": "Paris"}', {"schema": SCHEMA}),
    "log-probabilities": (THOUGHT + SAID, {"logprobs": 2}),
    "log-probabilities of calls": (THOUGHT + SAID + CALL, {"logprobs": 1, "tools": True}),
    "error": ("[error overloaded]" + SAID, {}),
    "error deadline": ("[error deadline]" + SAID, {}),
    "error invalid": ("[error invalid]" + SAID, {"schema": SCHEMA}),
    "refused": ("[refuse invalid]" + SAID, {"schema": SCHEMA}),
    "refused call": ("[refuse invalid]" + SAID, {"tools": True, "choice": "required"}),
    "refused overloaded": ("[refuse overloaded]" + SAID, {}),
    "refused queue_timeout": ("[refuse queue_timeout]" + SAID, {}),
}


def _asked(text: str) -> str:
    wish, bracket, rest = text.partition("]")
    return f"{wish}] [say]{rest}[/say]" if bracket and wish.startswith(("[error", "[refuse")) else f"[say]{text}[/say]"


def chat(text: str, wish: Body) -> Body:
    """As a chat completion."""
    body: Body = {"model": "smollm2", "messages": [{"role": "user", "content": _asked(text)}]}
    if "limit" in wish:
        body["max_tokens"] = wish["limit"]
    if "stop" in wish:
        body["stop"] = wish["stop"]
    if wish.get("tools"):
        functions = [{"name": "weather", "parameters": SCHEMA}, {"name": "now", "description": "The time."}]
        body["tools"] = [{"type": "function", "function": one} for one in functions]
    if choice := wish.get("choice"):
        named = {"type": "function", "function": {"name": choice}}
        body["tool_choice"] = choice if choice in ("required", "none") else named
    if "parallel" in wish:
        body["parallel_tool_calls"] = wish["parallel"]
    if "schema" in wish:
        schema = {"name": "answer", "schema": wish["schema"]}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if "logprobs" in wish:
        body |= {"logprobs": True, "top_logprobs": wish["logprobs"]}
    return body


def responses(text: str, wish: Body) -> Body:
    """As a response."""
    body: Body = {"model": "smollm2", "input": _asked(text)}
    if "limit" in wish:
        body["max_output_tokens"] = wish["limit"]
    if "stop" in wish:
        body["stop"] = wish["stop"]
    if wish.get("tools"):
        now = {"type": "function", "name": "now", "description": "The time."}
        body["tools"] = [{"type": "function", "name": "weather", "parameters": SCHEMA}, now]
    if choice := wish.get("choice"):
        body["tool_choice"] = choice if choice in ("required", "none") else {"type": "function", "name": choice}
    if "parallel" in wish:
        body["parallel_tool_calls"] = wish["parallel"]
    if "schema" in wish:
        body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": wish["schema"]}}
    if "logprobs" in wish:
        body |= {"include": ["message.output_text.logprobs"], "top_logprobs": wish["logprobs"]}
    return body


def messages(text: str, wish: Body) -> Body:
    """As a message."""
    body: Body = {"model": "smollm2", "max_tokens": wish.get("limit", 1900)}
    body["messages"] = [{"role": "user", "content": _asked(text)}]
    if "stop" in wish:
        body["stop_sequences"] = wish["stop"]
    if wish.get("tools"):
        now = {"name": "now", "description": "The time.", "input_schema": {"type": "object"}}
        body["tools"] = [{"name": "weather", "input_schema": SCHEMA}, now]
    if choice := wish.get("choice"):
        body["tool_choice"] = {"type": {"required": "any", "none": "none"}.get(choice, "tool")}
        if choice not in ("required", "none"):
            body["tool_choice"]["name"] = choice
    if "parallel" in wish:
        body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": not wish["parallel"]}
    if "schema" in wish:
        body["output_config"] = {"format": {"type": "json_schema", "schema": wish["schema"]}}
    return body


def completions(text: str, wish: Body) -> Body:
    """As a completion."""
    body: Body = {"model": "smollm2", "prompt": _asked(text), "max_tokens": wish.get("limit", 1900)}
    if "stop" in wish:
        body["stop"] = wish["stop"]
    if "logprobs" in wish:
        body["logprobs"] = wish["logprobs"]
    if "schema" in wish:
        body["structured_outputs"] = {"json": wish["schema"]}
    return body


APIS = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/responses": responses,
    "/v1/messages": messages,
}

_SAY = chat(THOUGHT + SAID, {})
_CALLS = chat(THOUGHT + SAID + CALL, {"tools": True})
_TWO = completions(SAID, {})
_CUSTOM = '<tool_call>\n{"name": "box__patch", "arguments": {"input": "*** Begin"}}\n</tool_call>'
_BOX = {"type": "namespace", "name": "box", "tools": [{"type": "custom", "name": "patch"}]}
_PATCH = {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}}

SPECIAL: dict[str, tuple[str, Body]] = {
    "chat: usage at the end": ("/v1/chat/completions", _SAY | {"stream_options": {"include_usage": True}}),
    "chat: usage throughout": (
        "/v1/chat/completions",
        _CALLS | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "chat: n": ("/v1/chat/completions", _CALLS | {"n": 2, "stream_options": {"include_usage": True}}),
    "chat: token ids": ("/v1/chat/completions", _CALLS | {"return_token_ids": True, "logprobs": True}),
    "chat: reasoning hidden": (
        "/v1/chat/completions",
        _CALLS | {"include_reasoning": False, "stream_options": {"include_usage": True}, "logprobs": True},
    ),
    "chat: continued": (
        "/v1/chat/completions",
        _SAY
        | {"messages": [*_SAY["messages"], {"role": "assistant", "content": "<think>Well"}]}
        | {"continue_final_message": True},
    ),
    "chat: stop token": ("/v1/chat/completions", _SAY | {"stop_token_ids": [30], "include_stop_str_in_output": True}),
    "completions: n and usage": ("/v1/completions", _TWO | {"n": 2, "stream_options": {"include_usage": True}}),
    "completions: usage throughout": (
        "/v1/completions",
        _TWO | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "completions: echo": ("/v1/completions", _TWO | {"echo": True, "logprobs": 1, "return_token_ids": True}),
    "completions: prompt alone": ("/v1/completions", _TWO | {"echo": True, "max_tokens": 0, "logprobs": 1}),
    "responses: custom tool": ("/v1/responses", responses(SAID + _CUSTOM, {}) | {"tools": [_BOX]}),
    "responses: custom tool, cut": (
        "/v1/responses",
        responses(SAID + _CUSTOM, {"limit": 30}) | {"tools": [_BOX], "instructions": "Be brief.", "metadata": {"a": 1}},
    ),
    "responses: wishes": (
        "/v1/responses",
        responses(SAID, {})
        | {"tools": [{"type": "web_search"}, _PATCH], "truncation": "auto", "reasoning": {"effort": "high"}},
    ),
    "messages: wishes": (
        "/v1/messages",
        messages(SAID, {"limit": 5000})
        | {"tools": [{"type": "web_search_1", "name": "s"}], "output_config": {"effort": "high"}, "speed": "fast"},
    ),
    "messages: begun": (
        "/v1/messages",
        messages(SAID, {}) | {"messages": [*messages(SAID, {})["messages"], {"role": "assistant", "content": "So"}]},
    ),
}
WHOLE_ALONE: dict[str, tuple[str, Body]] = {
    "chat: best_of": ("/v1/chat/completions", _SAY | {"n": 2, "best_of": 3, "logprobs": True}),
    "chat: prompt log-probabilities": ("/v1/chat/completions", chat("a", {}) | {"prompt_logprobs": 1}),
    "completions: prompts": ("/v1/completions", _TWO | {"prompt": [_asked("One."), _asked("Two.")], "n": 2}),
    "completions: prompt log-probabilities": ("/v1/completions", completions("a", {}) | {"prompt_logprobs": 1}),
}

_WRONG: dict[str, list[Body]] = {
    "/v1/chat/completions": [
        {"temperature": -1}, {"temperature": "x"}, {"max_tokens": 0}, {"max_tokens": 10**30}, {"top_p": 2},
        {"stop": ["a"] * 40}, {"stop": [""]}, {"n": 0}, {"logit_bias": {"x": 1}}, {"bad_words": [""]},
        {"top_logprobs": 3}, {"tool_choice": "required"}, {"messages": []}, {"messages": [{"role": "user"}]},
        {"messages": [{"role": "x", "content": "a"}]}, {"messages": [{"role": "user", "content": "a " * 3000}]},
        {"messages": [{"role": "user", "content": "\ud800"}]}, {"messages": [{"role": "user", "content": "a", "b": 1}]},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
        {"response_format": {"type": "json_schema"}}, {"use_beam_search": True, "n": 2, "logprobs": True},
        {"response_format": {"type": "json_object"}, "guided_regex": "a"},
        {"response_format": {"type": "json_object"}, "use_beam_search": True, "n": 2},
        {"structured_outputs": {}}, {"structured_outputs": {"regex": "a", "choice": ["b"]}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#/x"}}}},
        {"chat_template_kwargs": {"messages": 1}}, {"min_tokens": 3000}, {"truncate_prompt_tokens": 0},
        {"audio": {}}, {"nobody": 1}, {"model": "x"}, {"priority": 10**12}, {"cache_salt": ""},
    ],
    "/v1/completions": [
        {"temperature": -1}, {"max_tokens": 0}, {"prompt": []}, {"prompt": [1, -2]}, {"prompt": [10**6]},
        {"prompt": ""}, {"logprobs": 99}, {"best_of": 1, "n": 2}, {"suffix": "a"}, {"guided_json": "{"},
        {"guided_json": {}, "guided_regex": "a"}, {"prompt": "a " * 3000}, {"min_tokens": 3000},
    ],
    "/v1/responses": [
        {"temperature": -1}, {"temperature": "x"}, {"top_p": 2}, {"max_output_tokens": 0}, {"stop": ["a"] * 40},
        {"stop": [""]}, {"top_k": -5}, {"seed": 2**70}, {"top_logprobs": 3}, {"tool_choice": "required"},
        {"input": []}, {"input": [{"role": "user"}]}, {"input": [{"role": "x", "content": "a"}]},
        {"input": "a " * 3000}, {"input": [{"type": "function_call_output", "call_id": "1", "output": "a"}]},
        {"input": [{"type": "item_reference", "id": "a"}]}, {"previous_response_id": "a"}, {"nobody": 1},
        {"tools": [{"type": "function", "name": "a b"}]}, {"tools": [{"type": "function", "name": "a"}] * 2},
        {"tools": [{"type": "function", "name": "a", "parameters": {"type": "array"}}]},
        {"tools": [{"type": "web_search"}, {"type": "function", "name": "a", "parameters": {"$ref": "#/x"}}],
         "tool_choice": "required"},
        {"tools": [{"type": "namespace", "name": "b", "tools": [{"type": "function", "name": "c d"}]}]},
        {"tool_choice": {"type": "function", "name": "a"}}, {"chat_template_kwargs": {"messages": 1}},
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "z"}]}},
        {"text": {"format": {"type": "json_schema", "name": "a"}}}, {"priority": 10**12}, {"cache_salt": ""},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"$ref": "#/x"}}}},
        {"text": {"format": {"type": "json_object"}}, "tools": [{"type": "function", "name": "a"}],
         "tool_choice": "required"},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 21}, {"metadata": 1}, {"model": "x"},
        {"max_output_tokens": 10**30}, {"parallel_tool_calls": "a"}, {"reasoning": {"effort": "x"}},
        {"cache_salt": "a" * 300}, {"chat_template_kwargs": {str(number): 1 for number in range(70)}},
    ],
    "/v1/messages": [
        {"temperature": -1}, {"temperature": "x"}, {"top_p": 2}, {"max_tokens": 0}, {"stop_sequences": ["a"] * 40},
        {"stop_sequences": [""]}, {"top_k": -5}, {"messages": []}, {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": "a " * 3000}]}, {"messages": [{"role": "assistant", "content": []}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "a b", "input": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, {"system": 1}, {"nobody": 1},
        {"tools": [{"name": "a b", "input_schema": {}}]}, {"tools": [{"name": "a", "input_schema": {}}] * 2},
        {"tools": [{"name": "a", "input_schema": {"type": "array"}}]},
        {"tools": [{"type": "web_search_1"}, {"name": "a", "input_schema": {"$ref": "#/x"}}],
         "tool_choice": {"type": "any"}},
        {"tool_choice": {"type": "tool", "name": "a"}}, {"tool_choice": {"type": "tool"}},
        {"tool_choice": {"type": "any"}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#"}}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
         "tools": [{"name": "a", "input_schema": {}}], "tool_choice": {"type": "any"}},
        {"output_config": {"effort": "x"}}, {"max_tokens": 10**30}, {"model": "x"}, {"thinking": {"type": "x"}},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "a", "input": {}}]}]},
    ],
    "/v1/messages/count_tokens": [{"messages": [{"role": "user", "content": "a " * 3000}], "max_tokens": None}],
    "/v1/responses/input_tokens": [{"input": "a " * 3000}],
    "/tokenize": [{"messages": [{"role": "user", "content": "a"}], "tools": [{}]},
                  {"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"messages": 1}}],
}  # fmt: skip


def _plain(path: str) -> Body:
    if path == "/tokenize":
        return {}
    make = APIS.get(path) or (messages if "messages" in path else responses)
    body = make(SAID, {})
    return {name: body[name] for name in body if path != "/v1/messages/count_tokens" or name != "max_tokens"}


def cases() -> dict[str, tuple[str, Body]]:
    """Every case by its name: a path, and a body."""
    found: dict[str, tuple[str, Body]] = {}
    for path, make in APIS.items():
        for name, (text, wish) in ANSWERS.items():
            body = make(text, wish)
            found[f"{path} {name}"] = path, body
            found[f"{path} {name}, streamed"] = path, body | {"stream": True}
    for name, (path, body) in SPECIAL.items():
        found[f"{name}, streamed"] = path, body | {"stream": True}
        found[name] = path, {one: given for one, given in body.items() if one != "stream_options"}
    found |= WHOLE_ALONE
    for path, bodies in _WRONG.items():
        for number, body in enumerate(bodies):
            given = {name: one for name, one in (_plain(path) | body).items() if one is not None}
            found[f"{path} wrong {number}"] = path, given
    return found
