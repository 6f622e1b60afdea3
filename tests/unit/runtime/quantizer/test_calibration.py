"""Which parts of a text a model is calibrated by, and which it is judged by."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from octavo_runtime.layers.rope_scaling import LongRope
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.quantizer.calibration import check_length, held_out, read_texts
from octavo_runtime.quantizer.recipe import CannotQuantize, Recipe
from octavo_runtime.text.tokenizer import Tokenizer

WORDS = 2**17


class Places:
    """A tokenizer of which each token is its place in a text."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [ord(each) for each in text]


TOKENIZER = cast(Tokenizer, Places())
RECIPES = [
    Recipe("gptq", 4, samples=samples, sample_tokens=tokens) for samples, tokens in [(1, 16), (8, 64), (300, 200)]
]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("".join(chr(0xE000 + place) for place in range(WORDS)), encoding="utf-8")
    return file


@pytest.mark.parametrize("judged", RECIPES, ids=str)
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_nothing_that_a_model_is_judged_by_is_calibrated_by(recipe: Recipe, judged: Recipe, text: Path) -> None:
    learned = read_texts(text, TOKENIZER, 2**31, recipe).calibration
    assert (len(learned), *{len(piece) for piece in learned}) == (recipe.samples, recipe.sample_tokens)
    of_bench = held_out(text, TOKENIZER, 2**31, judged.samples // 8 + 1, judged.sample_tokens, "text")
    for apart in (read_texts(text, TOKENIZER, 2**31, judged).held_out, of_bench):
        assert apart
        assert max(map(max, learned)) < min(map(min, apart))


@pytest.mark.parametrize(("scaling", "longest"), [(None, 256), (LongRope((1.0,), 1.0, 64, (2.0,), 1.0), 64)], ids=str)
def test_pieces_are_no_longer_than_a_model_reads_without_being_asked(scaling: LongRope | None, longest: int) -> None:
    spec = replace(find_spec("SmolLM2-135M"), max_position=256, rope_scaling=scaling)
    check_length(spec, longest, "tokens")
    with pytest.raises(CannotQuantize, match=rf"^tokens: must be at most {longest}, the model's context, got"):
        check_length(spec, longest + 1, "tokens")
