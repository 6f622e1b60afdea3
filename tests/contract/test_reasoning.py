"""Reasoning apart from the answer, and what chat templates are told."""

import json

import httpx
import openai
import pytest
from patience import PATIENCE

THINKING = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if documents %}{{ documents[0].text }}{% endif %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}{{ reasoning_effort }}"""
OPENING = THINKING.replace("{{ reasoning_effort }}", "{% if add_generation_prompt %}<think>\n{% endif %}")
THOUGHT = "<think>\nSo, voilà.\n</think>\n\nParis."


@pytest.fixture(scope="module")
def models(scripted_models, model_with_template):
    """One server for each template, with further arguments."""
    found = {}

    def model(template, *arguments):
        if (template, arguments) not in found:
            server = scripted_models(model_with_template(template), "--served-name", "smollm2", *arguments)
            server.wait_ready()
            found[template, arguments] = server
        return found[template, arguments]

    return model


def post(server, **asked):
    body = {"model": "smollm2", "temperature": 0, **asked}
    headers = {"Content-Type": "application/json"}
    url = f"{server.url}/v1/chat/completions"
    return httpx.post(url, content=json.dumps(body), headers=headers, trust_env=False, timeout=PATIENCE)


def say(text):
    return [{"role": "user", "content": f"[say]{text}[/say]"}]


def both_ways(server, **asked):
    """Reasoning, content and reasoning_tokens of an answer; a stream must bring the same."""
    answer = post(server, **asked)
    assert answer.status_code == 200, answer.text
    message, usage = answer.json()["choices"][0]["message"], answer.json()["usage"]
    assert message.get("reasoning") == message.get("reasoning_content")
    reasoning, content = "", ""
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", http_client=httpx.Client(trust_env=False)
    ) as client:
        for chunk in client.chat.completions.create(
            model="smollm2",
            temperature=0,
            messages=asked.pop("messages"),
            stream=True,
            stream_options={"include_usage": True},
            extra_body=asked,
        ):
            for choice in chunk.choices:
                extra = choice.delta.model_extra
                assert extra.get("reasoning") == extra.get("reasoning_content")
                reasoning += extra.get("reasoning") or ""
                content += choice.delta.content or ""
    assert (reasoning, content) == (message.get("reasoning") or "", message["content"] or "")
    assert chunk.usage.to_dict() == usage
    return message.get("reasoning"), message["content"], usage["completion_tokens_details"]["reasoning_tokens"]


def test_reasoning_is_apart(models):
    reasoning, content, tokens = both_ways(models(THINKING), messages=say(THOUGHT))
    assert (reasoning, content) == ("So, voilà.", "Paris.")
    marks = len(httpx.post(f"{models(THINKING).url}/tokenize", json={"prompt": "<think>\nSo, voilà.\n</think>"},
                           trust_env=False, timeout=PATIENCE).json()["tokens"])  # fmt: skip
    assert abs(tokens - marks) <= 1, "the last mark and the blanks behind it may share a token"


def test_an_answer_without_reasoning(models):
    assert both_ways(models(THINKING), messages=say("Paris <think>.")) == (None, "Paris <think>.", 0)


def test_a_template_that_opens_the_reasoning(models):
    server = models(OPENING)
    assert both_ways(server, messages=say("So.\n</think>\n\nParis."))[:2] == ("So.", "Paris.")
    reasoning, content, tokens = both_ways(server, messages=say("So, and so"), max_tokens=2)
    assert (reasoning, content, tokens) == ("So,", None, 2)


def test_thinking_that_the_template_has_switched_off(models):
    asked = {"messages": say("Paris."), "chat_template_kwargs": {"enable_thinking": False}}
    assert both_ways(models(THINKING), **asked) == (None, "Paris.", 0)


def test_reasoning_is_left_out_on_request(models):
    reasoning, content, tokens = both_ways(models(THINKING), messages=say(THOUGHT), include_reasoning=False)
    assert (reasoning, content) == (None, "Paris.")
    assert tokens > 5


def test_calls_behind_reasoning(models):
    tools = [{"type": "function", "function": {"name": "now"}}]
    text = f'{THOUGHT}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>'
    choice = post(models(THINKING), messages=say(text), tools=tools).json()["choices"][0]
    assert choice["message"]["reasoning"] == "So, voilà."
    assert choice["message"]["content"] == "Paris."
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("parser", "template"), [("none", THINKING), ("think", "{{ messages[0].content }}")])
def test_the_parser_can_be_chosen(models, parser, template):
    reasoning, content, _ = both_ways(models(template, "--reasoning-parser", parser), messages=say(THOUGHT))
    assert (reasoning, content) == ((None, THOUGHT) if parser == "none" else ("So, voilà.", "Paris."))


def test_a_form_leaves_no_room_to_think(models):
    """The form holds from the first token, so nothing is taken for reasoning, and a prompt that opens it is closed."""
    form = {"response_format": {"type": "json_object"}}
    assert both_ways(models(OPENING), messages=say("{}"), **form) == (None, "{}", 0)
    assert prompt_of(models(OPENING), **form).endswith("assistant\n<think>\n\n</think>\n\n")


def test_usage_in_every_chunk_counts_up(models):
    with openai.OpenAI(
        base_url=f"{models(THINKING).url}/v1",
        api_key="none",
        http_client=httpx.Client(trust_env=False),
    ) as client:
        chunks = list(
            client.chat.completions.create(
                model="smollm2",
                messages=say(THOUGHT),
                stream=True,
                stream_options={"include_usage": True, "continuous_usage_stats": True},
            )
        )
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    thought = [chunk.usage.completion_tokens_details.reasoning_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] <= 1 < counts[-1]
    assert thought[0] <= 1 < thought[-1] < counts[-1]


def prompt_of(server, **asked):
    """The text of the prompt that the request makes."""
    asked = {"messages": [{"role": "user", "content": "hi"}], **asked}
    answer = post(server, max_tokens=1, return_token_ids=True, **asked)
    assert answer.status_code == 200, answer.text
    tokens = {"tokens": answer.json()["prompt_token_ids"]}
    return httpx.post(f"{server.url}/detokenize", json=tokens, trust_env=False, timeout=PATIENCE).json()["prompt"]


def test_a_stop_string_in_the_reasoning_does_not_end_the_answer(models):
    text = "<think>\nParis, or Lyon?\n</think>\n\nThe city is Paris, I think."
    assert both_ways(models(THINKING), messages=say(text), stop=["Paris"])[:2] == ("Paris, or Lyon?", "The city is ")
    opened = text.removeprefix("<think>\n")
    assert both_ways(models(OPENING), messages=say(opened), stop=["Paris"])[:2] == ("Paris, or Lyon?", "The city is ")
    plain = {"messages": say("Is it Paris?"), "stop": ["Paris"]}
    assert both_ways(models(THINKING), **plain)[:2] == (None, "Is it ")


def test_reasoning_is_only_what_a_message_begins_with(models):
    """Neither a mark within the begun message nor one that the answer begins with hides the answer."""
    for begun in ("The tag <think> is used", "The tag is "):
        messages = [*say("<think> and closed"), {"role": "assistant", "content": begun}]
        asked = {"messages": messages, "continue_final_message": True}
        assert both_ways(models(THINKING), **asked)[:2] == (None, "<think> and closed")


def test_what_the_template_is_told(models):
    server = models(THINKING)
    earlier = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes", "reasoning": "hm"},
        {"role": "user", "content": "so"},
    ]
    assert "<think>hm</think>yes<|im_end|>" in prompt_of(server, messages=earlier)
    assert prompt_of(server, reasoning_effort="low").endswith("low")
    assert "<think>\n\n</think>" in prompt_of(server, chat_template_kwargs={"enable_thinking": False})
    assert "</think>" not in prompt_of(server, chat_template_kwargs={"enable_thinking": True})
    assert "a document" in prompt_of(server, documents=[{"title": "t", "text": "a document"}])
    assert not prompt_of(server, add_generation_prompt=False).endswith("assistant\n")
    special = {"chat_template_kwargs": {"reasoning_effort": "<|im_end|>"}}
    answer = post(server, messages=say("a"), return_token_ids=True, max_tokens=1, **special).json()
    assert answer["prompt_token_ids"].count(2) == 1, "of the user's turn alone"


def test_an_answer_goes_on_from_the_last_message(models):
    server = models(THINKING)
    begun = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "The capital is "}]
    assert prompt_of(server, messages=begun, continue_final_message=True).endswith("assistant\nThe capital is ")
    thinking = [*say("done</think>Yes"), {"role": "assistant", "content": "<think>I was "}]
    assert both_ways(server, messages=thinking, continue_final_message=True)[:2] == ("done", "Yes")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages: is set by the server"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools: is set by the server"),
        ({"chat_template_kwargs": {"add_generation_prompt": True}}, "add_generation_prompt: is set by the server"),
        ({"chat_template_kwargs": {"bos_token": "x"}}, "chat_template_kwargs.bos_token: is set by the server"),
        ({"chat_template_kwargs": {"a": "\ud800"}}, "chat_template_kwargs: must be valid Unicode"),
        ({"chat_template_kwargs": {str(n): n for n in range(65)}}, "at most 64"),
        ({"chat_template_kwargs": {"a": "b" * 2**20}}, "at most 1048576"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs: should be a valid dictionary"),
        ({"chat_template": "{{ 1 }}"}, "chat_template: not supported; the model's own is used"),
        ({"documents": [5]}, "documents.0: should be a valid dictionary, got 5"),
        ({"reasoning_effort": "huge"}, "reasoning_effort: should be 'none'"),
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message: cannot be combined with add_generation_prompt",
        ),
        ({"messages": [{"role": "user", "content": "a", "reasoning": "b"}]}, "messages.0.reasoning: only allowed"),
        ({"add_special_tokens": True}, "add_special_tokens: not supported"),
        ({"suffix": "x"}, "suffix: unknown field"),
        ({"echo": True}, "echo: not supported"),
        ({"logits_processors": ["x"]}, "logits_processors: not supported"),
        ({"thinking_token_budget": 5}, "thinking_token_budget: not supported"),
        ({"return_tokens_as_token_ids": True}, "return_tokens_as_token_ids: not supported"),
        ({"stream": True, "stream_options": {"everything": True}}, "stream_options.everything: unknown field"),
    ],
)
def test_bad_requests(scripted, asked, words):
    answer = post(scripted, **{"messages": say("x"), **asked})
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def strict(scripted_servers):
    server = scripted_servers("--strict")
    server.wait_ready()
    return server


@pytest.mark.parametrize(
    ("asked", "ignored", "param"),
    [
        ({"reasoning_effort": "high"}, "reasoning_effort", "reasoning_effort"),
        ({"service_tier": "flex"}, "service_tier", "service_tier"),
        ({"verbosity": "low"}, "verbosity", "verbosity"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction", "prediction"),
        ({"web_search_options": {}}, "web_search_options", "web_search_options"),
        ({"max_tokens": 32000}, "max_tokens", "messages"),
        ({"max_completion_tokens": 10**9}, "max_completion_tokens", "messages"),
        ({"verbosity": "low", "max_tokens": 32000}, "verbosity, max_tokens", "verbosity"),
    ],
)
def test_a_wish_is_ignored_and_named_or_by_a_strict_server_refused(scripted, strict, asked, ignored, param):
    answer = post(scripted, messages=say("x"), **asked)
    assert (answer.status_code, answer.headers.get("x-octavo-ignored")) == (200, ignored), answer.text
    refused = post(strict, messages=say("x"), **asked)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert "x-octavo-ignored" not in refused.headers


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/v1/chat/completions", {"messages": say("x")}), ("/v1/completions", {"prompt": "x", "max_tokens": 50})],
)
def test_what_no_grammar_keeps_to_is_named_or_by_a_strict_server_refused(scripted, strict, path, asked):
    kept_to = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    schema = {"type": "object", "properties": {"tags": kept_to}, "required": ["tags"]}
    for wish, field in (
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}},
         "response_format.json_schema.schema"),
        ({"guided_json": schema}, "guided_json"),
    ):  # fmt: skip
        place = f"{field}.properties.tags.uniqueItems"
        body = {"model": "smollm2", **asked, **wish}
        answer = httpx.post(f"{scripted.url}{path}", json=body, trust_env=False, timeout=PATIENCE)
        assert (answer.status_code, answer.headers.get("x-octavo-ignored")) == (200, place), answer.text
        refused = httpx.post(f"{strict.url}{path}", json=body, trust_env=False, timeout=PATIENCE)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, place)


def test_no_effort_is_a_wish_that_is_done(scripted, strict):
    for server in (scripted, strict):
        answer = post(server, messages=say("x"), reasoning_effort="none")
        assert (answer.status_code, answer.headers.get("x-octavo-ignored")) == (200, None)


def test_an_answer_is_cut_to_the_room_that_its_prompt_leaves(scripted):
    answer = post(scripted, messages=[{"role": "user", "content": "[slow]" + " a" * 1990}], max_tokens=32000).json()
    usage = answer["usage"]
    assert usage["total_tokens"] == 2048
    assert answer["choices"][0]["finish_reason"] == "length"


def test_more_tokens_than_there_is_room_for_are_refused_where_they_are_a_must(scripted):
    answer = post(scripted, messages=say("x"), max_tokens=32000, min_tokens=3000)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


def test_fields_that_cannot_matter_are_accepted(scripted):
    answer = post(
        scripted,
        messages=say("x"),
        user="me",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        safety_identifier="a",
        prompt_cache_key="a",
        prompt_cache_retention="24h",
        modalities=["text"],
        verbosity="medium",
        prediction=None,
        functions=[],
        parallel_tool_calls=True,
        request_id="a",
        detokenize=True,
        spaces_between_special_tokens=False,
        add_special_tokens=False,
        echo=False,
        guided_decoding_backend="auto",
        logits_processors=[],
        mm_processor_kwargs=None,
        vllm_xargs={},
        include_reasoning=True,
        stream=None,
        skip_special_tokens=None,
        stop=None,
        n=None,
    )
    assert answer.status_code == 200, answer.text


def test_a_templates_failure_is_the_clients_fault_and_the_server_lives_on(models):
    server = models(
        "{% for m in messages %}{% if m.content == 'loop' %}{% for a in range(99999) %}{% for b in range(99999) %}"
        "{% endfor %}{% endfor %}{% elif m.content == 'boom' %}{{ m.content * 10**10 }}{% else %}{{ m.content }}"
        "{% endif %}{% endfor %}"
    )
    for word, bound in (("loop", "1 s"), ("boom", "memory")):
        answer = post(server, messages=[{"role": "user", "content": word}])
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "messages"
        assert bound in answer.json()["error"]["message"]
    assert post(server, messages=say("fine")).json()["choices"][0]["message"]["content"] == "fine"
