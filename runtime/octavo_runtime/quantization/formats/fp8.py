"""FP8 (e4m3) as DeepSeek and Qwen ship it, with the scales of blocks, and of whole tensors or rows."""

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme
from octavo_runtime.quantization.stored_parts import FLOATS, Get, Has, Part, StoredForm, Weight


def form(scheme: Scheme) -> StoredForm:
    """See StoredForm."""
    return scaled_form(scheme, "F8_E4M3", ("weight_scale_inv", "weight_scale"))


def scaled_form(scheme: Scheme, kind: str, scales: tuple[str, ...]) -> StoredForm:
    """A weight of 8 bits a number, in safetensors' type `kind`, and its scales, which have one of those names."""
    high, wide = scheme.group

    def parts(weight: Weight, has: Has) -> dict[str, Part]:
        stored = next(name for name in scales if has(name))
        beside = [name for name in ("input_scale", "input_scale_ub", "activation_scale") if has(name)]
        shape = (weight.groups_of_rows(high), weight.groups(wide)) if high > 1 or wide else None
        return {
            "weight": Part((kind,), (weight.rows, weight.columns)),
            stored: Part(FLOATS, shape, size=(1, weight.rows)),
            **{name: Part(FLOATS, is_read=False) for name in beside},
        }

    def read(weight: Weight, has: Has, get: Get) -> GroupedMatrix:
        found = get(next(name for name in scales if has(name))).float()
        values = get("weight")
        if high == 1 and not wide:
            found = found.reshape(-1, 1).expand(weight.rows, 1).contiguous()
        return GroupedMatrix(values, found, (high, wide or weight.columns), rounds_inputs=scheme.rounds_inputs)

    return StoredForm(scales, parts, read)
