"""Fields that clients may send although they change nothing: those without effect here, and those of features that are
not supported, with the values that ask for nothing."""

from collections.abc import Mapping, Set
from typing import Any

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
    "service_tier": (None, "auto", "default"),
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
    "prediction": (None,),
    "thinking_token_budget": (None,),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
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
            _require_neutral(name, given, neutral[name])
        else:
            kept[name] = given
    return kept


def _require_neutral(name: str, given: Any, neutral: tuple[Any, ...]) -> None:
    if not any(given == value and isinstance(given, bool) == isinstance(value, bool) for value in neutral):
        allowed = " or ".join(_as_json(value) for value in neutral if value is not None)
        remedy = f"leave it out or send {allowed}" if allowed else "leave it out"
        instead = f"; {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise ValueError(f"{name}: not supported{instead}; {remedy}, got {given!r:.100}")


def _as_json(value: Any) -> str:
    return str(value).replace("'", '"') if not isinstance(value, str) else f'"{value}"'
