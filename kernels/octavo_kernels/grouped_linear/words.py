"""How a thread of a kernel for Hopper unpacks words of narrow weights, as they are stored, into pairs of 16
bits, and in which order that puts the terms of the sum.

The four threads that share a row of the matrix units' operand take 16 bytes each in turn, and of each word the numbers
that lie 16 bits apart as one pair: so no bits cross from one half of a register to the other, and a pair takes two to
five instructions. A product is the same in any order of its terms; so rows that are multiplied by such weights lie in
the order in which the weights come."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from octavo_kernels.grouped_linear import word_forms
from octavo_kernels.grouped_linear.interleaved_parts import numbers_of
from octavo_kernels.grouped_linear.interleaved_words import base
from octavo_kernels.grouped_linear.interleaved_words import unpacking as unpacking_integers

BLOCK = tl.constexpr(word_forms.BLOCK)


@triton.jit
def place_of(term, BITS: tl.constexpr):
    """Where a term of the sum lies in the rows that are multiplied by weights of so many bits."""
    each = term % BLOCK
    if BITS == 4:
        thread, pair, second = each // 32, each // 8 % 4 * 4 + each % 4, each // 4 % 2
    else:
        thread, pair, second = each // 16 % 4, (each // 64 * 4 + each // 4 % 4) * 2 + each % 2, each // 2 % 2
    return term if BITS == 16 else term - each + pair * 8 + thread * 2 + second


@gluon.constexpr_function
def unpacking(kind: str, is_f16: bool) -> str:
    """Code that makes four pairs of a word of 4 bits each, or of two of FP8 or int8. MXFP4's in bfloat16 alone, without
    their scales; integers of 4 bits `base` too large."""
    if kind in ("int4", "int8"):
        code: str = unpacking_integers(4 if kind == "int4" else 8, 0, is_f16, None)
        return code
    lines = _of_mxfp4() if kind == "mxfp4" else _of_fp8(4, is_f16) + _of_fp8(5, is_f16)
    return "{\n.reg .b32 moved, signs, factor;\n" + "\n".join(lines) + "\n}"


@gluon.constexpr_function
def _of_mxfp4() -> list[str]:
    """Sign, exponent and mantissa, moved to where bfloat16 has them, are the number over 2 ** 126."""
    lines = ["mov.b32 factor, 0x7E807E80;"]
    for pair in range(4):
        lines += [
            f"shl.b32 signs, $4, {12 - 4 * pair};",
            _shift(6 - 4 * pair, "$4"),
            "and.b32 moved, moved, 0x01C001C0;",
            "lop3.b32 moved, signs, 0x80008000, moved, 0xEA;",
            f"mul.bf16x2 ${pair}, moved, factor;",
        ]
    return lines


@gluon.constexpr_function
def _of_fp8(word: int, is_f16: bool) -> list[str]:
    """The bits of e4m3, moved likewise, are the number over 2 ** 8 in float16, over 2 ** 120 in bfloat16."""
    places, mask, kind = (7, 0x3F803F80, "f16x2") if is_f16 else (4, 0x07F007F0, "bf16x2")
    lines = [f"mov.b32 factor, {'0x5C005C00' if is_f16 else '0x7B807B80'};"]
    for upper in range(2):
        lines += [
            f"shl.b32 signs, ${word}, {8 - 8 * upper};",
            _shift(places - 8 * upper, f"${word}"),
            f"and.b32 moved, moved, {mask:#010x};",
            "lop3.b32 moved, signs, 0x80008000, moved, 0xEA;",
            f"mul.{kind} ${2 * (word - 4) + upper}, moved, factor;",
        ]
    return lines


@gluon.constexpr_function
def _shift(places: int, source: str) -> str:
    return f"shl.b32 moved, {source}, {places};" if places >= 0 else f"shr.u32 moved, {source}, {-places};"


@gluon.constexpr_function
def _of_pairs(code: str, is_f16: bool) -> str:
    return code.replace("TYPE", "f16x2" if is_f16 else "bf16x2")


_TWICE = gl.constexpr("mov.b32 $0, {$1, $1};")
_LESS = gl.constexpr("sub.TYPE $0, $1, $2;")
_TIMES = gl.constexpr("mul.TYPE $0, $1, $2;")
# A scale of more bits is two numbers, its rounding and the rest: the product is rounded once.
_TIMES_BOTH = gl.constexpr("{\n.reg .b32 rest;\nmul.TYPE rest, $1, $3;\nfma.rn.TYPE $0, $1, $2, rest;\n}")


@gluon.jit
def _twice(number):
    """A pair of the same 16 bits, int32."""
    bits = number.to(gl.int16, bitcast=True)
    return gl.inline_asm_elementwise(_TWICE, "=r,h", [bits], dtype=gl.int32, is_pure=True, pack=1)


@gluon.jit
def _each(code: gl.constexpr, pairs, by, element: gl.constexpr):
    typed: gl.constexpr = _of_pairs(code, element == gl.float16)
    first = gl.inline_asm_elementwise(typed, "=r,r,r", [pairs[0], by], dtype=gl.int32, is_pure=True, pack=1)
    second = gl.inline_asm_elementwise(typed, "=r,r,r", [pairs[1], by], dtype=gl.int32, is_pure=True, pack=1)
    third = gl.inline_asm_elementwise(typed, "=r,r,r", [pairs[2], by], dtype=gl.int32, is_pure=True, pack=1)
    fourth = gl.inline_asm_elementwise(typed, "=r,r,r", [pairs[3], by], dtype=gl.int32, is_pure=True, pack=1)
    return first, second, third, fourth


@gluon.jit
def _scaled(pair, upper, rest, element: gl.constexpr):
    code: gl.constexpr = _of_pairs(_TIMES_BOTH, element == gl.float16)
    return gl.inline_asm_elementwise(code, "=r,r,r,r", [pair, upper, rest], dtype=gl.int32, is_pure=True, pack=1)


@gluon.jit
def operand_of(word, more, scale, zero, FORM: gl.constexpr, element: gl.constexpr, layout: gl.constexpr):
    """[rows, 32] of `element` as the matrix units take them, of a word of each of the threads that share a row, and of
    8 bits another one, [rows, 4]. scale, zero: of each word, as they are stored, [rows, 4]; FORM:
    `word_forms.Form`."""
    IS_F16: gl.constexpr = element == gl.float16
    pairs = gl.inline_asm_elementwise(
        unpacking(FORM.kind, IS_F16),
        "=&r,=&r,=&r,=&r,r,r",
        [word, more],
        dtype=(gl.int32, gl.int32, gl.int32, gl.int32),
        is_pure=True,
        pack=1,
    )
    if FORM.kind == "mxfp4":
        pairs = _each(_TIMES, pairs, _twice((scale.to(gl.int16) << 7).to(gl.bfloat16, bitcast=True)), element)
    elif FORM.scaled:
        if FORM.kind == "int4":
            taken = (zero.to(gl.float32) + (base(4, IS_F16) + FORM.offset)).to(element)
            pairs = _each(_LESS, pairs, _twice(taken), element)
        if scale.dtype == element:
            pairs = _each(_TIMES, pairs, _twice(scale), element)
        else:
            wide = scale.to(gl.float32)
            rounded = wide.to(element)
            upper, rest = _twice(rounded), _twice((wide - rounded.to(gl.float32)).to(element))
            pairs = (
                _scaled(pairs[0], upper, rest, element),
                _scaled(pairs[1], upper, rest, element),
                _scaled(pairs[2], upper, rest, element),
                _scaled(pairs[3], upper, rest, element),
            )
    return gl.convert_layout(numbers_of(pairs, element), layout, assert_trivial=True)
