"""Numbers in 8 bits, in Triton: FP8 (e4m3) by its bits, which GPUs before Ada have no instructions for."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

PLAIN, FP8, INT8 = 0, 1, 2  # how a cache's numbers are stored: in the type that is computed with, or in 8 bits
_FP8, _INT8 = tl.constexpr(FP8), tl.constexpr(INT8)

# Of two words of 16 bits, the first numbers of both in $0, in float16, and the second ones in $1.
_FP8_PAIRS = tl.constexpr("""{
.reg .b32 sorted;
.reg .b16 firsts, seconds;
prmt.b32 sorted, $2, 0, 0x3120;
mov.b32 {firsts, seconds}, sorted;
cvt.rn.f16x2.e4m3x2 $0, firsts;
cvt.rn.f16x2.e4m3x2 $1, seconds;
}""")
# Signed bytes whose sign is turned are 128 more: in the last bits of 1024 in float16.
_INT8_PAIRS = tl.constexpr("""{
.reg .b32 turned, firsts, seconds, base;
mov.b32 base, 0x64806480;
xor.b32 turned, $2, 0x80808080;
prmt.b32 firsts, turned, 0x64646464, 0x4240;
prmt.b32 seconds, turned, 0x64646464, 0x4341;
sub.f16x2 $0, firsts, base;
sub.f16x2 $1, seconds, base;
}""")


@triton.jit
def from_fp8(stored):
    """float32 of uint8: its bits in float16's places are the number over 256, subnormal ones too."""
    bits = stored.to(tl.uint16)
    halves = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
    return halves.to(tl.float16, bitcast=True).to(tl.float32) * 256.0


@triton.jit
def to_fp8(number):
    """uint8 of float32, to the nearest, ties to even; what is too large to the largest. The bits are those of a float
    that is 2 ** -120 times as large, rounded to 3 of mantissa."""
    bounded = tl.minimum(tl.maximum(number, -448.0), 448.0)
    wide = (bounded * 7.52316384526264e-37).to(tl.uint32, bitcast=True)
    rounded = ((wide & 0x7FFFFFFF) + 0x7FFFF + ((wide >> 20) & 1)) >> 20
    return (((wide >> 24) & 0x80) | rounded).to(tl.uint8)


@triton.jit
def to_int8(number):
    """int8 of float32, to the nearest, ties to even; what is too large to the largest."""
    bounded = tl.minimum(tl.maximum(number, -127.0), 127.0)
    # Adding it leaves no bits behind the point, rounded as all sums are.
    return ((bounded + 12582912.0) - 12582912.0).to(tl.int8)


@triton.jit
def widened(stored, like, KIND: tl.constexpr):
    """Stored numbers in the type of `like`, without their scale."""
    if KIND == _FP8:
        numbers = from_fp8(stored).to(like.dtype)
    elif KIND == _INT8:
        numbers = stored.to(like.dtype)
    else:
        numbers = stored
    return numbers


@triton.jit
def widened_pairs(words, KIND: tl.constexpr, NATIVE: tl.constexpr):
    """(first, second), both float16 and shaped like `words`: the two numbers in each word, int16, without their scale,
    the first in the lower bits. NATIVE: by instructions that GPUs have from Ada on, and Triton's interpreter lacks."""
    if NATIVE:
        first, second = tl.inline_asm_elementwise(
            _FP8_PAIRS if KIND == _FP8 else _INT8_PAIRS,
            "=r,=r,r",
            [words],
            dtype=(tl.float16, tl.float16),
            is_pure=True,
            pack=2,
        )
    else:
        STORED: tl.constexpr = tl.uint8 if KIND == _FP8 else tl.int8
        first = widened(words.to(STORED), tl.zeros([1], tl.float16), KIND)
        second = widened((words >> 8).to(STORED), tl.zeros([1], tl.float16), KIND)
    return first, second


@triton.jit
def in_float16(number):
    """Of any float; what float16 does not reach to becomes its largest number."""
    return tl.clamp(number.to(tl.float32), -65504.0, 65504.0, propagate_nan=tl.PropagateNan.ALL).to(tl.float16)


@triton.jit
def narrowed(number, scale, KIND: tl.constexpr):
    """A number in 8 bits, over its scale."""
    scaled = tl.div_rn(number.to(tl.float32), scale)
    return to_fp8(scaled) if KIND == _FP8 else to_int8(scaled)


def kind_of(cache: Tensor) -> int:
    """How a cache's numbers are stored."""
    return {torch.float8_e4m3fn: FP8, torch.int8: INT8}.get(cache.dtype, PLAIN)


def as_pairs(cache: Tensor) -> Tensor:
    """A cache of 8 bits as int16 words [..., head_dim / 2] of two numbers, the first in the lower bits."""
    return cache.view(torch.int16)


def as_bytes(cache: Tensor) -> Tensor:
    """A cache in FP8 as uint8, which any GPU loads; others as they are."""
    return cache.view(torch.uint8) if cache.dtype == torch.float8_e4m3fn else cache
