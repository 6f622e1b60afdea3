"""Each method's weights against those that are rounded to the nearest, by what they change in the outputs."""

import pytest
import torch

from octavo_runtime.quantization.configuration import scheme_of
from octavo_runtime.quantization.formats import stored_form
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix, quantize_rows
from octavo_runtime.quantization.stored_parts import Weight
from octavo_runtime.quantization.unpacking import unpack_words
from octavo_runtime.quantizer import awq, fp8, gptq, int8, squeezellm
from octavo_runtime.quantizer.inputs import Inputs, input_sum, output_error
from octavo_runtime.quantizer.packing import pack_words
from octavo_runtime.quantizer.recipe import Recipe

ROWS, COLUMNS = 48, 128


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    """Inputs that hang together, some of them ten times as large."""
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(COLUMNS, COLUMNS, generator=generator)
    found = torch.randn(400, COLUMNS, generator=generator) @ mixing
    found[:, ::11] *= 10
    return found


@pytest.fixture(scope="module")
def inputs(x: torch.Tensor) -> Inputs:
    total = input_sum(COLUMNS, torch.device("cpu"))
    for part in x.split(150):
        total.add(part)
    return total.means()


def error(matrix: GroupedMatrix, weight: torch.Tensor, inputs: Inputs) -> float:
    return float(output_error(matrix.dequantize() - weight, inputs))


def nearest(weight: torch.Tensor, bits: int, size: int) -> torch.Tensor:
    """Symmetric, as GPTQ's format has it."""
    groups = weight.unflatten(1, (-1, size))
    scales = groups.abs().amax(-1, keepdim=True) * 2 / (2**bits - 1)
    return ((groups / scales).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scales).flatten(1)


def gptq_of(weight: torch.Tensor, inputs: Inputs, recipe: Recipe) -> GroupedMatrix:
    order = gptq.column_order(inputs)
    return gptq.quantize(weight, gptq.inverse_factor(inputs, order), order, recipe)


def read(recipe: Recipe, parts: dict[str, torch.Tensor]) -> GroupedMatrix:
    """By the loader of published checkpoints, types and shapes checked."""
    form, shape = stored_form(scheme_of(recipe.configuration())), Weight(ROWS, COLUMNS)
    types = {torch.int32: "I32", torch.float16: "F16", torch.float32: "F32", torch.int8: "I8"}
    types[torch.float8_e4m3fn] = "F8_E4M3"
    wanted = form.parts(shape, parts.__contains__)
    assert set(wanted) == set(parts)
    for name, part in wanted.items():
        assert part.problem(types[parts[name].dtype], tuple(parts[name].shape)) is None, name
    return form.read(shape, parts.__contains__, parts.__getitem__)


def test_the_error_of_a_change_is_that_of_the_outputs(x, inputs, weight):
    change = weight * 0.01
    expected = (x @ change.T).square().sum(1).mean()
    torch.testing.assert_close(output_error(change, inputs), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("bits", [4, 8])
def test_words_are_unpacked_to_what_was_packed(bits):
    numbers = torch.randint(0, 2**bits, (5, 64), generator=torch.Generator().manual_seed(bits))
    assert unpack_words(pack_words(numbers, bits), bits).equal(numbers.to(torch.uint8))


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [32, 64, 0])
def test_gptq_loses_less_than_rounding(weight, inputs, bits, size, act_order):
    recipe = Recipe("gptq", bits, size, act_order)
    found = gptq_of(weight, inputs, recipe)
    plain = output_error(nearest(weight, bits, size or COLUMNS) - weight, inputs)
    assert error(found, weight, inputs) < 0.5 * float(plain)
    stored = gptq.stored(found, recipe)
    assert read(recipe, stored).dequantize().equal(found.dequantize())
    assert stored["g_idx"].bincount().tolist() == [size or COLUMNS] * (COLUMNS // (size or COLUMNS))


@pytest.mark.parametrize("size", [32, 0])
def test_gptq_loses_less_where_the_largest_inputs_come_first(weight, inputs, size):
    errors = []
    for order in (gptq.column_order(inputs), torch.arange(COLUMNS)):
        found = gptq.quantize(weight, gptq.inverse_factor(inputs, order), order, Recipe("gptq", 4, size))
        errors.append(error(found, weight, inputs))
    assert errors[0] < 0.95 * errors[1]


def test_gptq_with_inputs_that_are_never_there(weight, inputs):
    """Their rows and columns of the Hessian are 0, and it has no Cholesky factor."""
    gram = inputs.gram.clone()
    gram[40:60], gram[:, 40:60] = 0, 0
    found = gptq_of(weight, Inputs(gram, inputs.sizes), Recipe("gptq", 4, 32))
    assert found.dequantize().isfinite().all()
    assert (found.dequantize() - weight).abs().max() < 1.5


def test_gptq_with_fewer_texts_than_inputs(weight, x):
    """The Hessian is of lower rank than it has columns."""
    total = input_sum(COLUMNS, torch.device("cpu"))
    total.add(x[:10])
    inputs = total.means()
    found = gptq_of(weight, inputs, Recipe("gptq", 4, 32))
    assert error(found, weight, inputs) < 0.2 * float(output_error(nearest(weight, 4, 32) - weight, inputs))


def test_awq_finds_scales_and_bounds_that_lose_less(weight, inputs):
    plain = error(awq.rounded(weight, 32), weight, inputs)
    scales = awq.best_scales([awq.Readers([weight], inputs)], inputs.sizes, 32)
    scaled = awq.rounded(weight * scales, 32).dequantize() / scales
    with_scales = float(output_error(scaled - weight, inputs))
    cut = awq.quantize(weight * scales, inputs.scaled(scales), 32)
    with_both = float(output_error(cut.dequantize() / scales - weight, inputs))
    assert with_both < with_scales < 0.8 * plain
    assert scales[::11].mean() > 1.2 * scales.mean()


def test_awq_scales_are_of_the_readers_that_most_tokens_come_to(weight, inputs):
    """The others' inputs have other sizes: what is best for them alone is not what is best for both."""
    others = awq.Readers([weight], Inputs(inputs.gram.flip(0, 1), inputs.sizes.flip(0)), 1e-6)
    one = awq.best_scales([awq.Readers([weight], inputs)], inputs.sizes, 32)
    both = awq.best_scales([awq.Readers([weight], inputs), others], inputs.sizes, 32)
    assert both.equal(one)
    assert not awq.best_scales([others], inputs.sizes, 32).equal(one)


def test_awq_is_stored_as_it_is_read(weight, inputs):
    found = awq.quantize(weight, inputs, 32)
    assert read(Recipe("awq", 4, 32), awq.stored(found)).dequantize().equal(found.dequantize())


def test_awq_scales_that_several_columns_share(weight, inputs):
    sharing = torch.arange(COLUMNS // 2).repeat_interleave(2)
    scales = awq.best_scales([awq.Readers([weight], inputs)], inputs.sizes, 32, sharing)
    assert scales[::2].equal(scales[1::2])
    assert len(scales.unique()) > 10


@pytest.mark.parametrize("share", [0.0, 0.0045])
def test_squeezellm_loses_less_than_rounding(weight, inputs, share):
    recipe = Recipe("squeezellm", 4, outliers=share)
    found = squeezellm.quantize(weight, inputs, recipe)
    assert error(found, weight, inputs) < 0.5 * float(output_error(nearest(weight, 4, COLUMNS) - weight, inputs))
    assert read(recipe, squeezellm.stored(found)).dequantize().equal(found.dequantize())
    count = int(share * ROWS * COLUMNS)
    assert (0 if found.outliers is None else found.outliers.values().numel()) == count
    if count:
        greatest = weight.abs().flatten().topk(count // 2).indices
        assert torch.allclose(found.dequantize().flatten()[greatest], weight.flatten()[greatest], atol=1e-6)


def test_squeezellm_of_rows_with_few_numbers(inputs):
    weight = torch.zeros(ROWS, COLUMNS)
    weight[1, ::2], weight[2] = 1.0, -2.0
    found = squeezellm.quantize(weight, inputs, Recipe("squeezellm", 4))
    assert found.dequantize().equal(weight)


def test_squeezellm_of_weights_that_are_all_0(inputs):
    """As many as are kept apart are a whole row."""
    found = squeezellm.quantize(torch.zeros(ROWS, COLUMNS), inputs, Recipe("squeezellm", 4, outliers=0.05))
    assert found.dequantize().equal(torch.zeros(ROWS, COLUMNS))
    assert found.outliers is None


def test_squeezellm_keeps_a_row_apart_that_is_far_larger_than_all_others(weight, inputs):
    recipe, large = Recipe("squeezellm", 4, outliers=0.05), weight.clone()
    large[7] *= 1e4
    found = squeezellm.quantize(large, inputs, recipe)
    assert found.dequantize()[7].equal(large[7])
    assert error(found, large, inputs) < 0.5 * float(output_error(nearest(weight, 4, COLUMNS) - weight, inputs))
    assert read(recipe, squeezellm.stored(found)).dequantize().equal(found.dequantize())


@pytest.mark.parametrize("blocks", [False, True])
def test_fp8_and_int8_are_stored_as_they_are_read(weight, blocks):
    recipe = Recipe("fp8", 8, blocks=blocks)
    found = fp8.quantize(weight, recipe)
    assert read(recipe, fp8.stored(found)).dequantize().equal(found.dequantize())
    assert (found.dequantize() - weight).abs().max() < weight.abs().max() / 16
    whole = int8.quantize(weight)
    assert read(Recipe("int8", 8), int8.stored(whole)).dequantize().equal(whole.dequantize())
    assert (whole.dequantize() - weight).abs().max() <= weight.abs().amax(1).max() / 127 / 2 * 1.001


def test_fp8_scales_lose_less_than_those_of_the_greatest_weights(weight):
    found = fp8.quantize(weight, Recipe("fp8", 8)).dequantize() - weight
    plain = quantize_rows(weight, "fp8").dequantize() - weight
    assert (found.square().sum(1) <= plain.square().sum(1)).all()
    assert found.square().sum() < 0.97 * plain.square().sum()


def test_fp8_blocks_that_the_weight_does_not_fill(weight):
    """A scale for each block of 128 by 128, the last ones narrower."""
    wide = torch.cat((weight, weight[:, :72] * 100), dim=1).repeat(3, 1)  # [144, 200]
    found = fp8.quantize(wide, Recipe("fp8", 8, blocks=True))
    assert found.scales.shape == (2, 2)
    assert found.scales[0, 1] > 50 * found.scales[0, 0]
    assert ((found.dequantize() - wide).abs() <= wide.abs() / 16 + found.scales.max() / 512).all()
