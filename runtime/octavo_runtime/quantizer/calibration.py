"""The texts that a model reads while it is quantised, and those that it is judged by. Free of torch."""

import hashlib
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

from octavo_runtime.quantizer.recipe import CannotQuantize, Recipe
from octavo_runtime.text.tokenizer import Tokenizer

_HELD_OUT = 8  # of so many texts for calibration there is one that is held out
_MOST_CHARACTERS = 40  # read for a token that is asked for


class Texts(NamedTuple):
    """Token ids; a token that begins texts stands in front of each. digest: of all of them."""

    calibration: list[list[int]]
    held_out: list[list[int]]
    digest: str


def read_texts(file: Path | None, tokenizer: Tokenizer, vocab_size: int, recipe: Recipe) -> Texts:
    """Pieces of a text file, in even distances, of which the last ones are held out. Without a file of what Python says
    of itself (`help("topics")`), prose and code that every installation has. Raises CannotQuantize."""
    most = recipe.samples * recipe.sample_tokens * _MOST_CHARACTERS
    text = "\n".join(topics[name] for name in sorted(topics)) if file is None else _read(file, most)
    tokens = tokenizer.encode(text[:most], add_special_tokens=False, allow_special=False)
    begin = _beginning(tokenizer)
    size = recipe.sample_tokens - len(begin)
    pieces = len(tokens) // size
    if pieces < 2:
        raise CannotQuantize(f"calibration: must hold at least {2 * size} tokens, two samples, got {len(tokens)}")
    if max(tokens) >= vocab_size:
        raise CannotQuantize(f"model: tokens must be below vocab_size ({vocab_size}), the tokenizer has {max(tokens)}")
    wanted = min(recipe.samples + max(recipe.samples // _HELD_OUT, 1), pieces)
    starts = [piece * pieces // wanted * size for piece in range(wanted)]
    samples = [begin + tokens[start : start + size] for start in starts]
    held_out = max(wanted // (_HELD_OUT + 1), 1)
    digest = hashlib.sha256(repr(samples).encode()).hexdigest()
    return Texts(samples[:-held_out], samples[-held_out:], digest)


def _read(file: Path, most: int) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(most)
    except OSError as error:
        raise CannotQuantize(f"calibration: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CannotQuantize(f"calibration: {file} must be text in UTF-8") from None


def _beginning(tokenizer: Tokenizer) -> list[int]:
    """The tokens that the tokenizer puts in front of a text."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a", add_special_tokens=True)
    return whole[: whole.index(plain[0])] if plain and plain[0] in whole else []
