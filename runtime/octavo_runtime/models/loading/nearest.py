"""The served family whose name is like that of one that is not. Free of torch."""

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.68  # of get_close_matches: Qwen3Next and Qwen3 are, Mamba and Llama are not


def nearest(name: str, known: Iterable[str]) -> str:
    """Words for the end of a refusal; none where no name is like it."""
    by_stem = {_stem(each): each for each in known}
    found = get_close_matches(_stem(name), by_stem, n=1, cutoff=_ALIKE)
    return f"; the nearest name that is served is {by_stem[found[0]]}" if found else ""


def _stem(name: str) -> str:
    """qwen3next for Qwen3NextForCausalLM, as for qwen3_next."""
    return name.partition("For")[0].removesuffix("Model").lower().replace("_", "").replace("-", "")
