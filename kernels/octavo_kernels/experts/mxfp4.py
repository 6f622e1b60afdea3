"""Weights in MXFP4 as experts' kernels in Triton take them: see `octavo_kernels.experts.PackedWeights`."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
# Of four bytes at once: three bits of a half choose the bytes of 0, 0.5, 1, 1.5, 2, 3, 4 and 6 in bfloat16, of which
# those of the low halves of two bytes make a register, and those of the high halves; then the signs.
_MXFP4 = tl.constexpr("""{
.reg .b32 chosen, upper, lower, signs, moved;
and.b32 chosen, $4, 0x77777777;
prmt.b32 upper, 0x3F3F3F00, 0x40404040, chosen;
prmt.b32 lower, 0xC0800000, 0xC0804000, chosen;
prmt.b32 $0, lower, upper, 0x6240;
prmt.b32 $2, lower, upper, 0x7351;
shr.u32 chosen, chosen, 16;
prmt.b32 upper, 0x3F3F3F00, 0x40404040, chosen;
prmt.b32 lower, 0xC0800000, 0xC0804000, chosen;
prmt.b32 $1, lower, upper, 0x6240;
prmt.b32 $3, lower, upper, 0x7351;
shl.b32 signs, $4, 4;
and.b32 signs, signs, 0x80808080;
prmt.b32 moved, signs, 0, 0x1404;
or.b32 $0, $0, moved;
prmt.b32 moved, signs, 0, 0x3424;
or.b32 $1, $1, moved;
and.b32 signs, $4, 0x80808080;
prmt.b32 moved, signs, 0, 0x1404;
or.b32 $2, $2, moved;
prmt.b32 moved, signs, 0, 0x3424;
or.b32 $3, $3, moved;
}""")


@triton.jit
def mxfp4(stacked, column, is_column, first, WIDTH: tl.constexpr, DEPTH: tl.constexpr):
    """The even terms of a step of the sum, and the odd ones, [DEPTH / 2, COLUMNS] of the type of `numbers_of`.
    Arguments: see `products.product`."""
    GROUPS: tl.constexpr = DEPTH // 32
    COLUMNS: tl.constexpr = column.shape[0]
    group = first // 32 + tl.arange(0, GROUPS)
    is_group = (group < WIDTH // 32)[:, None] & is_column[None, :]
    exponent = tl.load(stacked.scales + column[None, :] * (WIDTH // 32) + group[:, None], mask=is_group, other=0)
    byte = group[:, None] * 16 + tl.arange(0, 16)[None, :]
    places = stacked.weight + column[None, None, :] * (WIDTH // 2) + byte[:, :, None]
    low, high = numbers_of(tl.load(places, mask=is_group[:, None, :], other=0))
    scale = (exponent.to(tl.int32) << 23).to(tl.float32, bitcast=True).to(low.dtype)[:, None, :]
    return (low * scale).reshape(DEPTH // 2, COLUMNS), (high * scale).reshape(DEPTH // 2, COLUMNS)


@triton.jit
def numbers_of(packed):
    """What the low halves of bytes stand for in MXFP4, and the high halves, in bfloat16; in Triton's interpreter, which
    knows no PTX, in float32."""
    if _INTERPRETED:
        low, high = number(packed & 15), number(packed >> 4)
    else:
        low, high = tl.inline_asm_elementwise(
            _MXFP4, "=&r,=&r,=&r,=&r,r", [packed], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=4
        )
    return low, high


@triton.jit
def number(half):
    """What 4 bits stand for, in float32: a sign, two bits of exponent, one of mantissa; 0 and 0.5 without the leading
    one. Moved to where float32 has these bits, they are the number over 2 ** 126, 0.5 too."""
    half = half.to(tl.int32)
    bits = ((half & 8) << 28) | ((half & 7) << 22)
    return bits.to(tl.float32, bitcast=True) * 8.507059173023462e37
