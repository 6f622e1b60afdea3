"""Which formats mean products of FP8 by FP8."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from octavo_runtime.quantization.configuration import scheme_of
from octavo_runtime.quantization.grouped_matrix import concatenate_groups, quantize_rows

FP8_GROUP = {"type": "float", "num_bits": 8, "strategy": "channel", "symmetric": True}


@pytest.mark.parametrize(
    ("config", "rounds"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, True),
        ({"quant_method": "fp8", "activation_scheme": "static"}, True),
        ({"quant_method": "fp8"}, False),
        ({"quant_method": "fbgemm_fp8"}, True),
        *(
            (
                {
                    "quant_method": "compressed-tensors",
                    "format": "float-quantized",
                    "config_groups": {
                        "group_0": {"targets": ["Linear"], "weights": FP8_GROUP, "input_activations": inputs}
                    },
                },
                inputs is not None,
            )
            for inputs in (FP8_GROUP | {"dynamic": True, "strategy": "token"}, None)
        ),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, False),
    ],
)
def test_inputs_are_rounded_where_the_format_says_so(config: dict[str, Any], rounds: bool) -> None:
    assert scheme_of(config).rounds_inputs == rounds


def test_what_is_fused_rounds_inputs_where_all_parts_do() -> None:
    weight = torch.randn(8, 32)
    fp8, int8 = quantize_rows(weight, "fp8"), quantize_rows(weight, "integers")
    assert fp8.rounds_inputs
    assert not int8.rounds_inputs
    both = concatenate_groups([fp8, fp8])
    mixed = concatenate_groups([fp8, replace(fp8, rounds_inputs=False)])
    assert both is not None
    assert both.rounds_inputs
    assert mixed is not None
    assert not mixed.rounds_inputs
