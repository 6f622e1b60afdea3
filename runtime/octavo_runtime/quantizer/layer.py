"""One layer's projections in fewer bits."""

from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import NamedTuple

from torch import Tensor

from octavo_runtime.models.loading.tensor_shapes import Fused
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantizer import awq, fp8, gptq, int8, squeezellm
from octavo_runtime.quantizer.feed_forward import LayerInputs, attention_projections, feed_forwards
from octavo_runtime.quantizer.folding import fold_scales
from octavo_runtime.quantizer.inputs import Inputs, output_error
from octavo_runtime.quantizer.recipe import CannotQuantize, Recipe


class QuantizedLayer(NamedTuple):
    """tensors: by their names in the model, those of projections in parts. error: root mean square of what changes in
    the projections' outputs, as a share of the outputs' own; without inputs, of the weights. few: experts that were
    calibrated by others' tokens too, since few chose them."""

    tensors: dict[str, Tensor]
    error: float
    few: int = 0


def check_sizes(spec: ModelSpec, recipe: Recipe) -> None:
    """Raises CannotQuantize where the format has no room for a projection of the model."""
    parts = [part for index in range(spec.num_layers) for part in _parts(spec, index)]
    columns = sorted({part.columns for part in parts})
    rows = sorted({count for part in parts for count in part.rows.values()})
    in_word = 32 // recipe.bits
    if recipe.method in ("awq", "gptq") and (odd := [count for count in rows if count % in_word]):
        raise CannotQuantize(f"model: outputs of projections must be multiples of {in_word}, got {odd[0]}")
    if recipe.method in ("gptq", "squeezellm") and (odd := [count for count in columns if count % in_word]):
        raise CannotQuantize(f"model: inputs of projections must be multiples of {in_word}, got {odd[0]}")
    size = recipe.group_size
    if size and any(count % size for count in columns):
        fits = [str(each) for each in (128, 64, 32, 16) if not any(count % each for count in columns)]
        raise CannotQuantize(
            f"group-size: must divide the inputs of all projections ({', '.join(map(str, columns))}), got {size}; "
            f"{' and '.join([*fits[:2], '-1 (all inputs)'])} would do"
        )


def quantize_layer(
    tensors: Mapping[str, Tensor], inputs: LayerInputs | None, spec: ModelSpec, index: int, recipe: Recipe
) -> QuantizedLayer:
    """tensors: the layer's, as they are stored. inputs: None where the method needs none."""
    found, at = dict(tensors), layer_prefix(index)
    if recipe.method == "awq":
        assert inputs is not None
        inputs = fold_scales(found, inputs, spec, index, recipe)
    changed = whole = 0.0
    for part, of_part in _with_inputs(found, inputs, spec, index):
        of_weights = {at + name: found.pop(f"{at}{name}.weight").float() for name in part.rows}
        for name, matrix in _quantized(of_weights, of_part, recipe).items():
            weight = of_weights[name]
            change = matrix.dequantize() - weight
            if of_part is None:
                changed, whole = changed + float(change.square().sum()), whole + float(weight.square().sum())
            else:
                changed += float(output_error(change, of_part))
                whole += float(output_error(weight, of_part))
            found |= {f"{name}.{kind}": tensor for kind, tensor in _stored(matrix, recipe).items()}
    routed = None if inputs is None else inputs.routed
    chosen = [mlp.expert for mlp in feed_forwards(spec, index) if mlp.expert is not None]
    few = 0 if routed is None else sum(map(routed.has_few, chosen))
    return QuantizedLayer(found, (max(changed, 0.0) / whole) ** 0.5 if whole else 0.0, few)


def _parts(spec: ModelSpec, index: int) -> list[Fused]:
    """All projections of a layer, those together that run as one."""
    mlps = feed_forwards(spec, index)
    return [*attention_projections(spec, index), *(part for mlp in mlps for part in (mlp.gate_up, mlp.down))]


def _with_inputs(
    tensors: Mapping[str, Tensor], inputs: LayerInputs | None, spec: ModelSpec, index: int
) -> Iterator[tuple[Fused, Inputs | None]]:
    """They and what they multiply, which is worked out of an MLP's tensors as they are when it is reached."""
    if inputs is None:
        yield from zip(_parts(spec, index), repeat(None), strict=False)
        return
    yield from zip(attention_projections(spec, index), inputs.attention, strict=True)
    for mlp in feed_forwards(spec, index):
        yield from zip((mlp.gate_up, mlp.down), inputs.of(mlp, tensors, layer_prefix(index)), strict=True)


def _quantized(weights: Mapping[str, Tensor], inputs: Inputs | None, recipe: Recipe) -> dict[str, GroupedMatrix]:
    """Of projections [rows, columns] float32 of the same inputs."""
    match recipe.method, inputs:
        case "awq", Inputs():
            return {
                name: awq.quantize(weight, inputs, recipe.group_size or weight.shape[1])
                for name, weight in weights.items()
            }
        case "gptq", Inputs():
            order = gptq.column_order(inputs)
            factor = gptq.inverse_factor(inputs, order)
            return {name: gptq.quantize(weight, factor, order, recipe) for name, weight in weights.items()}
        case "squeezellm", Inputs():
            return {name: squeezellm.quantize(weight, inputs, recipe) for name, weight in weights.items()}
        case "int8", _:
            return {name: int8.quantize(weight) for name, weight in weights.items()}
        case _:
            return {name: fp8.quantize(weight, recipe) for name, weight in weights.items()}


def _stored(matrix: GroupedMatrix, recipe: Recipe) -> dict[str, Tensor]:
    match recipe.method:
        case "awq":
            return awq.stored(matrix)
        case "gptq":
            return gptq.stored(matrix, recipe)
        case "squeezellm":
            return squeezellm.stored(matrix)
        case "int8":
            return int8.stored(matrix)
        case "fp8":
            return fp8.stored(matrix)
