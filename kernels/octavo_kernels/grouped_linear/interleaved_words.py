"""How a thread of grouped_linear's kernel for Hopper unpacks the words of interleaved weights: by two instructions a
pair of 4 bits, by six or fewer one of 8."""

# mypy: allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

# A pair of numbers in 16 bits each, the first in the lower ones.
PAIR = gl.constexpr("mov.b32 {$0, $1}, $2;")


@gluon.constexpr_function
def unpacking(bits: int, part: int, is_f16: bool, taken: int | None) -> str:
    """Code that makes four pairs of 16 bits of what a thread takes of 32 numbers: of a word, and where there are more
    than 4 bits of another.

    bits: of a number. part: which 32 of a stage's they are; numbers of 5 and 6 bits share their second word with those
    of other parts. taken: is taken off numbers of up to 6 bits; None leaves them `base` too large."""
    lines = _of_few_bits(bits, part, is_f16, taken) if bits < 8 else _of_int8(4, is_f16) + _of_int8(5, is_f16)
    names = "moved, low, high, number, less, wide, turned, one, other"
    return "{\n.reg .b32 " + names + ";\n.reg .f32 first, second;\n" + "\n".join(lines) + "\n}"


@gluon.constexpr_function
def base(bits: int, is_f16: bool) -> int:
    """What numbers of up to 6 bits are unpacked beside, whose last bits they are."""
    if bits == 8:
        return 0
    return 1024 if is_f16 else 128


@gluon.constexpr_function
def _of_few_bits(bits: int, part: int, is_f16: bool, taken: int | None) -> list[str]:
    step = bits - 4
    upper = 0x64006400 if is_f16 else 0x43004300
    lines = [f"mov.b32 wide, {upper:#010x};"]
    if taken is not None:
        lines.append(f"mov.b32 less, {_twice(base(bits, is_f16) + taken, is_f16):#010x};")
    for pair in range(4):
        found = f"${pair}" if taken is None else "number"
        if pair:
            lines.append(f"shr.u32 moved, $4, {4 * pair};")
        source, target = "moved" if pair else "$4", "low" if step else found
        lines.append(f"lop3.b32 {target}, {source}, 0x000F000F, wide, 0xEA;")
        if step:
            at = step * (4 * (part % (4 // step)) + pair)
            move = f"shl.b32 high, $5, {4 - at};" if at <= 4 else f"shr.u32 high, $5, {at - 4};"
            mask = ((1 << step) - 1 << 4) * 0x00010001
            lines += [move, f"lop3.b32 {found}, high, {mask:#010x}, low, 0xEA;"]
        if taken is not None:
            lines.append(f"sub.{'f16x2' if is_f16 else 'bf16x2'} ${pair}, number, less;")
    return lines


@gluon.constexpr_function
def _of_int8(word: int, is_f16: bool) -> list[str]:
    """Signed bytes whose sign is turned are 128 more: in the last bits of 1024 in float16; of 2 ** 23 in float32, since
    bfloat16 has too few."""
    first = 2 * (word - 4)
    lines = [f"xor.b32 turned, ${word}, 0x80808080;"]
    if is_f16:
        lines += [
            "mov.b32 wide, 0x64006400;",
            "mov.b32 less, 0x64806480;",
            "lop3.b32 low, turned, 0x00FF00FF, wide, 0xEA;",
            f"sub.f16x2 ${first}, low, less;",
            "shr.u32 moved, turned, 8;",
            "lop3.b32 high, moved, 0x00FF00FF, wide, 0xEA;",
            f"sub.f16x2 ${first + 1}, high, less;",
        ]
        return lines
    for pair in range(2):
        lines += [
            f"prmt.b32 one, turned, 0x4B000000, {0x7540 + pair:#06x};",
            f"prmt.b32 other, turned, 0x4B000000, {0x7542 + pair:#06x};",
            "mov.b32 first, one;",
            "mov.b32 second, other;",
            "sub.f32 first, first, 0f4B000080;",
            "sub.f32 second, second, 0f4B000080;",
            f"cvt.rn.bf16x2.f32 ${first + pair}, second, first;",
        ]
    return lines


@gluon.constexpr_function
def _twice(number: int, is_f16: bool) -> int:
    """The bits of a pair of a positive whole number."""
    places, bias = (10, 15) if is_f16 else (7, 127)
    exponent = number.bit_length() - 1
    bits = (exponent + bias << places) + (number << places >> exponent) - (1 << places)
    return bits * 0x00010001
