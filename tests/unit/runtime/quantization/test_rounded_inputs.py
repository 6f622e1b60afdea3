"""Which formats mean products of 8 bits by 8 bits, and of how many rows they are."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.grouped_linear.reference import grouped_linear, rounded_rows
from octavo_runtime.layers.linear import DenseLinear, GroupedLinear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.quantization.configuration import scheme_of
from octavo_runtime.quantization.grouped_matrix import concatenate_groups, quantize_rows
from octavo_runtime.quantization.scheme import ROUNDED_ROWS
from octavo_runtime.quantizer.recipe import Recipe

FP8_GROUP = {"type": "float", "num_bits": 8, "strategy": "channel", "symmetric": True}
INT8_GROUP = FP8_GROUP | {"type": "int"}


def compressed(layout: str, weights: dict[str, Any], inputs: dict[str, Any] | None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("config", "rounds"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, True),
        ({"quant_method": "fp8", "activation_scheme": "static"}, True),
        ({"quant_method": "fp8"}, False),
        ({"quant_method": "fbgemm_fp8"}, True),
        (compressed("float-quantized", FP8_GROUP, FP8_GROUP | {"dynamic": True, "strategy": "token"}), True),
        (compressed("float-quantized", FP8_GROUP, None), False),
        (compressed("int-quantized", INT8_GROUP, INT8_GROUP | {"dynamic": True, "strategy": "token"}), True),
        (compressed("int-quantized", INT8_GROUP, INT8_GROUP | {"dynamic": False, "strategy": "tensor"}), True),
        (compressed("int-quantized", INT8_GROUP, INT8_GROUP | {"symmetric": False}), False),
        (compressed("int-quantized", INT8_GROUP, None), False),
        (Recipe("int8", 8).configuration(), True),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, False),
    ],
)
def test_inputs_are_rounded_where_the_format_says_so(config: dict[str, Any], rounds: bool) -> None:
    assert scheme_of(config).rounds_inputs == rounds


def test_inputs_are_rounded_where_all_groups_say_so() -> None:
    config = compressed("int-quantized", INT8_GROUP, INT8_GROUP)
    config["config_groups"]["group_1"] = {"targets": ["re:.*down.*"], "weights": INT8_GROUP, "input_activations": None}
    assert not scheme_of(config).rounds_inputs


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


def test_many_rows_are_rounded_and_few_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-128, 128, (24, 96), generator=generator, dtype=torch.int8)
    weight = GroupedWeights(values, torch.rand(24, 1, generator=generator).half() / 500, (1, 96))
    x, bias = torch.randn(ROUNDED_ROWS + 1, 96, generator=generator), torch.randn(24, generator=generator)
    linear = GroupedLinear(weight, bias, rounds_inputs=True)
    rounded = grouped_linear(rounded_rows(x, torch.int8), weight, bias)
    torch.testing.assert_close(linear(x), rounded, rtol=1e-5, atol=1e-5)
    assert not linear(x).allclose(grouped_linear(x, weight, bias), rtol=1e-5, atol=1e-5)
    few = x[:ROUNDED_ROWS]
    torch.testing.assert_close(linear(few), grouped_linear(few, weight, bias), rtol=1e-5, atol=1e-5)


def test_what_a_gate_makes_of_many_rows_is_rounded_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-128, 128, (24, 96), generator=generator, dtype=torch.int8)
    weight = GroupedWeights(values, torch.rand(24, 1, generator=generator).half() / 500, (1, 96))
    down = GroupedLinear(weight, rounds_inputs=True)
    mlp = MLP(DenseLinear(torch.randn(192, 24, generator=generator)), down)
    x = torch.randn(ROUNDED_ROWS + 1, 24, generator=generator)
    torch.testing.assert_close(mlp(x), down(mlp.inner(x)), rtol=1e-4, atol=1e-2)
