"""compressed-tensors: integers of 4 and 8 bits in words, int8 and FP8 as they are, and NVFP4.

Activations may be rounded to 8 bits where the checkpoint's scheme has them so (`Scheme.rounds_inputs`), each token with
a scale of its own; input scales are passed over."""

import torch

from octavo_runtime.quantization.formats.fp8 import scaled_form
from octavo_runtime.quantization.formats.gptq import group_order
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme
from octavo_runtime.quantization.stored_parts import FLOATS, Get, Has, Part, StoredForm, Weight
from octavo_runtime.quantization.unpacking import centred, centred_zeros, unpack_halves, unpack_words

# What 4 bits stand for: a sign, two bits of exponent, one of mantissa (Open Compute Project, Microscaling Formats).
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


def form(scheme: Scheme) -> StoredForm:
    """See StoredForm."""
    match scheme.format:
        case "int-quantized":
            return scaled_form(scheme, "I8", ("weight_scale",))
        case "float-quantized":
            return scaled_form(scheme, "F8_E4M3", ("weight_scale",))
        case "nvfp4-pack-quantized":
            return _nvfp4(scheme)
        case _:
            return _words(scheme)


def _words(scheme: Scheme) -> StoredForm:
    bits, size = scheme.bits, scheme.group[1]
    in_word = 32 // bits

    def parts(weight: Weight, has: Has) -> dict[str, Part]:
        groups = weight.groups(size)
        found = {
            "weight_packed": Part(("I32",), (weight.rows, -(-weight.columns // in_word))),
            "weight_scale": Part(FLOATS, None if size == 0 else (weight.rows, groups), size=(1, weight.rows)),
        }
        if has("weight_shape"):
            found["weight_shape"] = Part(("I64", "I32"), (2,), is_read=False)
        if has("weight_zero_point"):
            found["weight_zero_point"] = Part(("I32",), (-(-weight.rows // in_word), groups))
        if has("weight_g_idx") or (scheme.has_order and groups > 1):
            found["weight_g_idx"] = Part(("I32", "I64"), (weight.columns,))
        return found

    def read(weight: Weight, has: Has, get: Get) -> GroupedMatrix:
        values = unpack_words(get("weight_packed"), bits)[:, : weight.columns]
        scales = get("weight_scale").float()
        scales = scales if size else scales.reshape(-1, 1).expand(weight.rows, 1).contiguous()
        if has("weight_zero_point"):
            words = get("weight_zero_point").T.contiguous()
            zeros = unpack_words(words, bits)[:, : weight.rows].T.contiguous()
        else:
            zeros = torch.full_like(scales, 2 ** (bits - 1))
        order = None
        if has("weight_g_idx") and (indices := get("weight_g_idx")).min() >= 0:
            order = group_order(indices, size)
        return GroupedMatrix(
            centred((values if order is None else values[:, order]).contiguous(), bits),
            scales,
            (1, size or weight.columns),
            centred_zeros(zeros, bits),
            order=order,
        )

    return StoredForm(("weight_packed",), parts, read)


def _nvfp4(scheme: Scheme) -> StoredForm:
    size = scheme.group[1]

    def parts(weight: Weight, has: Has) -> dict[str, Part]:
        found = {
            "weight_packed": Part(("U8",), (weight.rows, weight.columns // 2)),
            "weight_scale": Part(("F8_E4M3",), (weight.rows, weight.groups(size))),
            "weight_global_scale": Part(FLOATS, size=(1,)),
        }
        return found | ({"input_global_scale": Part(FLOATS, is_read=False)} if has("input_global_scale") else {})

    def read(_: Weight, __: Has, get: Get) -> GroupedMatrix:
        return GroupedMatrix(
            unpack_halves(get("weight_packed")),
            get("weight_scale").float() / get("weight_global_scale").float().reshape(()),
            (1, size),
            codebook=torch.tensor(E2M1),
        )

    return StoredForm(("weight_packed",), parts, read)
