"""Wishes: what a request may ask for that cannot make its answer wrong, and that nobody here can do. They are ignored,
and the response names them (see observe.request_log); a strict server refuses them by name. These tables are all there
are, but for two that depend on the model: max_tokens beyond the room left, and an effort that its chat template does
not know."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from octavo_runtime.server.fields.rule import broken_rule
from octavo_runtime.server.fields.unsupported import is_one_of, not_supported
from octavo_runtime.server.http.record import current_request


class Wish(NamedTuple):
    """why: why it is not done here; nothing: values that ask for nothing, and are not worth a word."""

    why: str
    nothing: tuple[Any, ...] = ()


Wishes = Mapping[str, Wish]
"""By the path of the field, with `*` for each element of a list."""

_ONE_TIER = "all requests are served alike"
_CACHED = "prefixes are cached by themselves"
_NO_VERBOSITY = "no model here can be told"
_WHOLE_CONVERSATION = "the conversation reaches the model as it is sent"
_OPEN_REASONING = "reasoning comes in the open and as it is"
_ONLY_THE_MODEL = "only the model calls tools"
_ALL_TOOLS_SHOWN = "every tool is shown to the model from the start"

COMPLETIONS: Wishes = {"service_tier": Wish(_ONE_TIER, ("auto", "default"))}
CHAT: Wishes = {
    **COMPLETIONS,
    "prompt_cache_options": Wish(_CACHED),
    "prediction": Wish("it would only make the answer faster"),
    "verbosity": Wish(_NO_VERBOSITY, ("medium",)),
    "web_search_options": Wish("this server does not search the web"),
}
MESSAGES: Wishes = {
    "billing_policy": Wish("nothing is billed"),
    "compaction": Wish(_WHOLE_CONVERSATION),
    "container": Wish("this server runs no code"),
    "context_management": Wish(_WHOLE_CONVERSATION),
    "fallback_credit_token": Wish("nothing is billed"),
    "fallbacks": Wish("the model that is asked answers", ([],)),
    "mcp_servers": Wish("this server calls no tools", ([],)),
    "output_config.task_budget": Wish(_NO_VERBOSITY),
    "service_tier": Wish(_ONE_TIER, ("auto", "standard_only")),
    "speed": Wish(_ONE_TIER, ("standard",)),
    "thinking.display": Wish(_OPEN_REASONING, ("summarized",)),
    "tools.*.allowed_callers": Wish(_ONLY_THE_MODEL, (["direct"],)),
    "tools.*.defer_loading": Wish(_ALL_TOOLS_SHOWN, (False,)),
    "tools.*.input_examples": Wish("the model sees a tool's schema alone", ([],)),
}
_FUNCTION_WISHES: Wishes = {
    "allowed_callers": Wish(_ONLY_THE_MODEL, (["direct"],)),
    "async": Wish("whether to wait for a call is the client's to choose", (False,)),
    "defer_loading": Wish(_ALL_TOOLS_SHOWN, (False,)),
    "output_schema": Wish("the model sees a tool's parameters alone"),
}
RESPONSES: Wishes = {
    "access_programs": Wish("all callers are served alike"),
    "client_metadata": Wish("nothing is kept of a request"),
    "context_management": Wish(_WHOLE_CONVERSATION, ([],)),
    "prompt_cache_options": Wish(_CACHED),
    "reasoning.context": Wish(_WHOLE_CONVERSATION, ("auto",)),
    "reasoning.generate_summary": Wish(_OPEN_REASONING, ("auto",)),
    "reasoning.mode": Wish("no model here has modes", ("standard",)),
    "reasoning.summary": Wish(_OPEN_REASONING, ("auto",)),
    "service_tier": Wish(_ONE_TIER, ("auto", "default")),
    "text.verbosity": Wish(_NO_VERBOSITY, ("medium",)),
    **{f"tools.*.{name}": wish for name, wish in _FUNCTION_WISHES.items()},
    **{f"tools.*.tools.*.{name}": wish for name, wish in _FUNCTION_WISHES.items()},
    "truncation": Wish("what does not fit the model is refused", ("disabled",)),
}

TOOLS_OF_ANTHROPICS_SERVERS = (
    "advisor_",
    "code_execution_",
    "mcp_toolset",
    "tool_search_tool_",
    "web_fetch_",
    "web_search_",
)
TOOLS_OF_OPENAIS_SERVERS = ("code_interpreter", "file_search", "image_generation", "mcp", "tool_search", "web_search")
"""How the types of tools begin that the API's own servers would run. A tool that the client runs is none of them:
without it, it would wait for calls in vain."""


GRAMMAR = Wish("the model is told of the grammar, and nothing holds it to it", ({"type": "text"},))
"""Of a custom tool of OpenAI's Responses API."""


def ignore(place: str, given: Any, wish: Wish, name: str | None = None) -> None:
    """Notes a wish at `place`, or by another name; ValueError where the server is strict."""
    record = current_request()
    if record.strict:
        raise not_supported(place, given, wish.nothing, wish.why)
    record.ignore(name or place)


def set_aside(fields: dict[str, Any], wishes: Wishes) -> dict[str, Any]:
    """The fields without the wishes among them. ValueError where the server is strict."""
    for path, wish in wishes.items():
        fields = _without(fields, path, path.split("."), "", wish)
    return fields


def without_server_tools(fields: dict[str, Any], kinds: tuple[str, ...]) -> dict[str, Any]:
    """The fields with null in the place of those tools whose type begins with one of `kinds`; a choice that names one
    of them stays, to be refused as a name that is not there. ValueError where the server is strict."""
    tools, kept = fields.get("tools"), list[Any]()
    if not isinstance(tools, list):
        return fields
    for number, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind.startswith(kinds):
            ignore(f"tools.{number}.type", kind, Wish("this server runs no tools"), f"tools.{number}")
            tool = None
        kept.append(tool)
    return {**fields, "tools": kept}


def check_number(place: str, value: Any, most: int) -> None:
    """ValueError where a list is too long, before anybody looks through it."""
    if isinstance(value, list) and len(value) > most:
        raise broken_rule(place, f"must have at most {most} items, got {len(value)}")


def _without(value: Any, path: str, rest: list[str], place: str, wish: Wish) -> Any:
    """`value` without what the rest of the path leads to. place: where `value` stands, with a dot behind it."""
    name, *further = rest
    if name == "*":
        if not isinstance(value, list):
            return value
        return [
            _without(one, path, further, f"{place}{number}.", wish) if isinstance(one, dict) else one
            for number, one in enumerate(value)
        ]
    if not isinstance(value, dict) or name not in value:
        return value
    given = value[name]
    if further:
        return {**value, name: _without(given, path, further, f"{place}{name}.", wish)}
    if given is not None and not is_one_of(given, wish.nothing):
        ignore(place + name, given, wish, path)
    return {one: value[one] for one in value if one != name}
