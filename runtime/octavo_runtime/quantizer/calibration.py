"""The texts that a model reads while it is quantised, and those that it is judged by. Free of torch."""

import hashlib
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

from octavo_runtime.layers.rope_scaling import LongRope
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantizer.recipe import CannotQuantize, Recipe
from octavo_runtime.text.tokenizer import Tokenizer

_PARTS = 9  # of a text, of which the last one is held out
_MOST_CHARACTERS = 2**23  # of a file, about as many as 4,096 samples of 512 tokens have


class Texts(NamedTuple):
    """Token ids; a token that begins texts stands in front of each. digest: of all of them."""

    calibration: list[list[int]]
    held_out: list[list[int]]
    digest: str


def read_texts(file: Path | None, tokenizer: Tokenizer, vocab_size: int, recipe: Recipe) -> Texts:
    """What a recipe is calibrated by, and an eighth as many pieces that are held out. Raises CannotQuantize."""
    text, size = _text(file, "calibration"), recipe.sample_tokens
    cut, few = _cut(text), max(recipe.samples // (_PARTS - 1), 1)
    learned = _pieces(text[:cut], tokenizer, vocab_size, recipe.samples, size, "calibration")
    apart = _pieces(text[cut:], tokenizer, vocab_size, few, size, "calibration")
    return Texts(learned, apart, hashlib.sha256(repr([*learned, *apart]).encode()).hexdigest())


def held_out(
    file: Path | None, tokenizer: Tokenizer, vocab_size: int, count: int, size: int, field: str
) -> list[list[int]]:
    """Pieces of size tokens of a text's last ninth, which no recipe is calibrated by. Without a file the text is what
    Python says of itself (`help("topics")`), prose and code that every installation has. field: what asks for the file.
    Raises CannotQuantize."""
    text = _text(file, field)
    return _pieces(text[_cut(text) :], tokenizer, vocab_size, count, size, field)


def check_length(spec: ModelSpec, tokens: int, field: str) -> None:
    """Raises CannotQuantize for pieces that are longer than a model reads."""
    longest = spec.max_position
    if isinstance(spec.rope_scaling, LongRope):  # a spec that nobody asks to serve longer requests turns as for these
        longest = min(longest, spec.rope_scaling.original_max_position)
    if tokens > longest:
        raise CannotQuantize(f"{field}: must be at most {longest}, the model's context, got {tokens}")


def _text(file: Path | None, field: str) -> str:
    if file is None:
        return "\n".join(topics[name] for name in sorted(topics))
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(_MOST_CHARACTERS)
    except OSError as error:
        raise CannotQuantize(f"{field}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CannotQuantize(f"{field}: {file} must be text in UTF-8") from None


def _cut(text: str) -> int:
    """Where the held-out part begins: in the text itself, whatever is asked of either part."""
    return len(text) - len(text) // _PARTS


def _pieces(text: str, tokenizer: Tokenizer, vocab_size: int, count: int, size: int, field: str) -> list[list[int]]:
    """In even distances, fewer than count where the text is short."""
    tokens = tokenizer.encode(text, add_special_tokens=False, allow_special=False)
    begin = _beginning(tokenizer)
    own = size - len(begin)
    there = len(tokens) // own
    if there < 1:
        parts = "both before and in its last ninth"
        raise CannotQuantize(f"{field}: must hold at least {own} tokens, a piece, {parts}, got {len(tokens)}")
    if max(tokens) >= vocab_size:
        raise CannotQuantize(f"model: tokens must be below vocab_size ({vocab_size}), the tokenizer has {max(tokens)}")
    wanted = min(count, there)
    starts = [piece * there // wanted * own for piece in range(wanted)]
    return [begin + tokens[start : start + own] for start in starts]


def _beginning(tokenizer: Tokenizer) -> list[int]:
    """The tokens that the tokenizer puts in front of a text."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a", add_special_tokens=True)
    return whole[: whole.index(plain[0])] if plain and plain[0] in whole else []
