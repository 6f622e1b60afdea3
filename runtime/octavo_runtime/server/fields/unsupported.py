"""Fields that clients may send although they change nothing: those without effect here, and those of features that are
not supported, with the values that ask for nothing."""

import json
from collections.abc import Mapping, Set
from typing import Any

from pydantic_core import PydanticCustomError

from octavo_runtime.server.fields.rule import broken_rule

# How a request is kept, named, counted or carried, never what is answered.
WITHOUT_EFFECT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "guided_decoding_backend",
        "spaces_between_special_tokens",  # there are none of these spaces here either way
    }
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "detokenize": (None, True),
    "ec_transfer_params": (None,),
    "guided_whitespace_pattern": (None,),
    "kv_transfer_params": (None,),
    "logits_processors": (None, []),
    "repetition_detection": (None,),
    "return_tokens_as_token_ids": (None, False),
    "structural_tag": (None,),
    "vllm_xargs": (None, {}),
}
NEUTRAL_FOR_CHAT: Mapping[str, tuple[Any, ...]] = {
    **_NEUTRAL,
    "add_special_tokens": (None, False),  # the chat template writes them
    "audio": (None,),
    "chat_template": (None,),
    "echo": (None, False),
    "function_call": (None, "none", "auto"),
    "functions": (None, []),
    "media_io_kwargs": (None, {}),
    "mm_processor_kwargs": (None, {}),
    "modalities": (None, ["text"]),
    "thinking_token_budget": (None,),
}
NEUTRAL_FOR_COMPLETIONS: Mapping[str, tuple[Any, ...]] = {
    **_NEUTRAL,
    "prompt_embeds": (None, []),
    "suffix": (None, ""),
}
_INSTEAD = {
    "chat_template": "the model's own is used; send chat_template_kwargs to set its variables",
    "function_call": "send tool_choice instead",
    "functions": "send tools instead",
    "suffix": "the model goes on from a prompt and cannot fill a gap",
}


def without_unsupported(
    fields: dict[str, Any], without_effect: Set[str], neutral: Mapping[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """The fields that matter. ValueError where one asks for what is not supported. without_effect: fields to drop;
    neutral: fields to drop where they have one of these values."""
    kept = {}
    for name, given in fields.items():
        if name in without_effect:
            continue
        if name in neutral:
            if not is_one_of(given, neutral[name]):
                raise not_supported(name, given, neutral[name], _INSTEAD.get(name))
        else:
            kept[name] = given
    return kept


def is_one_of(given: Any, values: tuple[Any, ...]) -> bool:
    """Whether a field has one of these values; 1 is not true."""
    return any(given == value and isinstance(given, bool) == isinstance(value, bool) for value in values)


def not_supported(field: str, given: Any, neutral: tuple[Any, ...], why: str | None) -> PydanticCustomError:
    """The error of a field that is refused: why, and what to send instead."""
    allowed = " or ".join(json.dumps(value) for value in neutral if value is not None)
    remedy = f"leave it out or send {allowed}" if allowed else "leave it out"
    return broken_rule(field, f"not supported{f'; {why}' if why else ''}; {remedy}, got {given!r:.100}")
