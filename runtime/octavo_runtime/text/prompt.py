"""A prompt as a program gives it: text, or token ids."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from octavo_runtime.protocol.sampling_params import InvalidParameter, check_id_types, check_unicode
from octavo_runtime.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """The token ids of a prompt; numpy's integers become Python's. Raises InvalidParameter where it is neither text nor
    token ids."""
    if isinstance(prompt, str):
        return tokenizer.encode(checked_text("prompt", prompt), add_special_tokens=True)
    # Bytes are a sequence of small integers, and no token ids for that.
    if isinstance(prompt, bytes | bytearray | memoryview) or not isinstance(prompt, Sequence | np.ndarray):
        raise InvalidParameter("prompt", f"must be text or token ids, got {reprlib.repr(prompt)}")
    ids: list[Any] = [one.item() if isinstance(one, np.integer) else one for one in prompt]
    check_id_types("prompt", ids)
    return ids


def listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as a list. Token ids alone are one prompt; so is what holds no prompts, which `prompt_ids`
    refuses: of a mapping, the keys would be taken for some."""
    if isinstance(prompts, str | bytes | bytearray | memoryview | Mapping) or not isinstance(prompts, Iterable):
        return [prompts]
    many: list[Any] = list(prompts)
    return [many] if many and not isinstance(many[0], str | Sequence | np.ndarray | Mapping) else many


def checked_text(field: str, text: object) -> str:
    """`text` itself. Raises InvalidParameter where it is none, or no Unicode."""
    if not isinstance(text, str):
        raise InvalidParameter(field, f"must be text, got {reprlib.repr(text)}")
    check_unicode(field, text)
    return text
