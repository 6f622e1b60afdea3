"""A prompt as a program gives it: text, or token ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from octavo_runtime.protocol.sampling_params import check_id_types
from octavo_runtime.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """The token ids of a prompt; numpy's integers become Python's. Raises InvalidParameter where an id is none."""
    if isinstance(prompt, str):
        return tokenizer.encode(prompt, add_special_tokens=True)
    ids: list[Any] = [one.item() if isinstance(one, np.integer) else one for one in prompt]
    check_id_types("prompt", ids)
    return ids


def listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as a list. Token ids alone are one prompt."""
    if isinstance(prompts, str):
        return [prompts]
    many: list[Any] = list(prompts)
    return [many] if many and not isinstance(many[0], str | Sequence | np.ndarray) else many
