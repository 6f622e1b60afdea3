"""bitsandbytes: NF4 and FP4 (Dettmers et al. 2023) in blocks of a row, and the rows of LLM.int8 (Dettmers et al. 2022),
where outliers among the activations need no care: these keep their 16 bits."""

import json

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme, UnsupportedQuantization
from octavo_runtime.quantization.stored_parts import FLOATS, Get, Has, Part, StoredForm, Weight
from octavo_runtime.quantization.unpacking import unpack_halves

_STATES = ("weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4")


def form(scheme: Scheme) -> StoredForm:
    """See StoredForm."""
    if scheme.format == "bitsandbytes-8bit":
        return StoredForm(("SCB",), _parts_of_8_bits, _read_8_bits)
    return StoredForm(("weight.absmax",), _parts_of_4_bits, _read_4_bits)


def _parts_of_8_bits(weight: Weight, has: Has) -> dict[str, Part]:
    found = {"weight": Part(("I8",), (weight.rows, weight.columns)), "SCB": Part(FLOATS, (weight.rows,))}
    return found | ({"weight_format": Part(("U8",))} if has("weight_format") else {})


def _read_8_bits(weight: Weight, has: Has, get: Get) -> GroupedMatrix:
    if has("weight_format") and int(get("weight_format").reshape(())) != 0:
        raise UnsupportedQuantization("weight_format must be 0, row by row, got another order of weights")
    return GroupedMatrix(get("weight"), get("SCB").float().unsqueeze(1) / 127, (1, weight.columns))


def _parts_of_4_bits(weight: Weight, has: Has) -> dict[str, Part]:
    state = next((name for name in _STATES if has(name)), _STATES[0])
    numbers = weight.rows * weight.columns
    if weight.columns % 2:
        raise UnsupportedQuantization(f"columns of 4 bits must be even, got {weight.columns}")
    found = {
        "weight": Part(("U8",), size=(numbers // 2,)),
        "weight.absmax": Part((*FLOATS, "U8")),
        "weight.quant_map": Part(FLOATS, (16,)),
        state: Part(("U8",)),
    }
    if has("weight.nested_absmax"):
        found |= {"weight.nested_absmax": Part(FLOATS), "weight.nested_quant_map": Part(FLOATS, (256,))}
    return found


def _read_4_bits(weight: Weight, has: Has, get: Get) -> GroupedMatrix:
    state = json.loads(bytes(get(next(name for name in _STATES if has(name))).tolist()))
    size = int(state["blocksize"])
    if list(state["shape"]) != [weight.rows, weight.columns] or weight.columns % size:
        found = f"{state['shape']} in blocks of {size}"
        raise UnsupportedQuantization(f"quant_state must be of whole blocks of {list(weight)}, got {found}")
    scales = get("weight.absmax")
    if has("weight.nested_absmax"):
        of_block = get("weight.nested_absmax").float().repeat_interleave(int(state["nested_blocksize"]))[: len(scales)]
        scales = get("weight.nested_quant_map").float()[scales.long()] * of_block + float(state["nested_offset"])
    values = unpack_halves(get("weight").flatten(), high_first=True).view(weight.rows, weight.columns)
    return GroupedMatrix(
        values, scales.float().view(weight.rows, -1), (1, size), codebook=get("weight.quant_map").float()
    )
