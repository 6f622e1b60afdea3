"""bitsandbytes: NF4 and FP4 (Dettmers et al. 2023) in blocks of a row, and the rows of LLM.int8 (Dettmers et al. 2022),
where outliers among the activations need no care: these keep their 16 bits."""

import textwrap
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme, UnsupportedQuantization
from octavo_runtime.quantization.stored_parts import FLOATS, Get, Has, Part, StoredForm, Weight
from octavo_runtime.quantization.unpacking import unpack_halves

_STATES = ("weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4")
_Size = Annotated[int, Field(ge=1)]


class _State(BaseModel):
    """What the tensor of JSON beside a weight says of it."""

    blocksize: _Size
    shape: tuple[int, int]


class _NestedState(BaseModel):
    """What it says of the weight's scales, where these are of 8 bits themselves."""

    nested_blocksize: _Size
    nested_offset: Annotated[float, Field(allow_inf_nan=False)]


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
    is_nested = has("weight.nested_absmax")
    found = {
        "weight": Part(("U8",), size=(numbers // 2,)),
        "weight.absmax": Part(("U8",) if is_nested else FLOATS),
        "weight.quant_map": Part(FLOATS, (16,)),
        state: Part(("U8",)),
    }
    if is_nested:
        found |= {"weight.nested_absmax": Part(FLOATS), "weight.nested_quant_map": Part(FLOATS, (256,))}
    return found


def _read_4_bits(weight: Weight, has: Has, get: Get) -> GroupedMatrix:
    text = bytes(get(next(name for name in _STATES if has(name))).tolist())
    state, of_scales = _states(text, is_nested=has("weight.nested_absmax"))
    size = state.blocksize
    if state.shape != tuple(weight) or weight.columns % size:
        found = f"{list(state.shape)} in blocks of {size}"
        raise UnsupportedQuantization(f"quant_state must be of whole blocks of {list(weight)}, got {found}")
    scales = get("weight.absmax").flatten()
    _check_count("weight.absmax", len(scales), weight.rows * weight.columns, size)
    if of_scales is not None:
        nested = get("weight.nested_absmax").float().flatten()
        _check_count("weight.nested_absmax", len(nested), len(scales), of_scales.nested_blocksize)
        of_block = nested.repeat_interleave(of_scales.nested_blocksize)[: len(scales)]
        scales = get("weight.nested_quant_map").float()[scales.long()] * of_block + of_scales.nested_offset
    values = unpack_halves(get("weight").flatten(), high_first=True).view(weight.rows, weight.columns)
    return GroupedMatrix(
        values, scales.float().view(weight.rows, -1), (1, size), codebook=get("weight.quant_map").float()
    )


def _states(text: bytes, *, is_nested: bool) -> tuple[_State, _NestedState | None]:
    try:
        state = _State.model_validate_json(text)
        return state, _NestedState.model_validate_json(text) if is_nested else None
    except ValidationError as error:
        words = explain(error, "quant_state.")
        raise UnsupportedQuantization(textwrap.shorten(words, 300, placeholder=" ...")) from None


def _check_count(name: str, found: int, numbers: int, size: int) -> None:
    if found != (wanted := -(-numbers // size)):
        raise UnsupportedQuantization(f"{name} must hold {wanted} scales of {size} numbers each, got {found}")
