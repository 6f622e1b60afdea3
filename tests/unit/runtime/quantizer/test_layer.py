"""Sizes of a model that a format has no room for."""

import pytest
from transformers import LlamaConfig

from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.quantizer.layer import check_sizes
from octavo_runtime.quantizer.recipe import CannotQuantize, Recipe


@pytest.mark.parametrize(
    ("recipe", "inner", "words"),
    [
        (Recipe("gptq", 4, 32), 100, "model: outputs of projections must be multiples of 8, got 100"),
        (Recipe("awq", 4, 32), 100, "model: outputs of projections must be multiples of 8, got 100"),
        (Recipe("gptq", 8, 128), 102, "model: outputs of projections must be multiples of 4, got 102"),
        (Recipe("squeezellm", 4), 100, "model: inputs of projections must be multiples of 8, got 100"),
        (
            Recipe("gptq", 4, 128),
            160,
            r"group-size: must divide the inputs of all projections \(64, 160\), got 128; "
            r"32 and 16 and -1 \(all inputs\) would do",
        ),
    ],
)
def test_the_size_that_does_not_fit_is_named_and_a_group_size_that_does(recipe: Recipe, inner: int, words: str) -> None:
    """Smaller sizes fit: the hidden size is 64."""
    config = LlamaConfig(hidden_size=64, intermediate_size=inner, num_attention_heads=4, num_hidden_layers=1)
    spec = spec_from_config(config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
    with pytest.raises(CannotQuantize, match=f"^{words}$"):
        check_sizes(spec, recipe)


def test_sizes_that_fit_one_format_alone() -> None:
    config = LlamaConfig(hidden_size=64, intermediate_size=100, num_attention_heads=4, num_hidden_layers=1)
    spec = spec_from_config(config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
    check_sizes(spec, Recipe("int8", 8))
    check_sizes(spec, Recipe("gptq", 8, 4))
