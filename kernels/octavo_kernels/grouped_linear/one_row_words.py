"""What a thread of grouped_linear's kernel for one row does with words of numbers of 4 bits, and of x."""

# mypy: allow-untyped-decorators

from triton.experimental import gluon


@gluon.constexpr_function
def multiplication(is_f16: bool) -> str:
    """Code that makes four sums ($0 to $3) of the matrix units of others ($10 to $13) and what words of eight numbers
    bring: $4 of a row of the weight, $5 of another, and $6 to $9 of x, as `neighbours_apart` leaves them. Numbers of 4
    bits stand beside 1024 in float16, beside 128 in bfloat16, whose last bits they are, and are so much too large."""
    of = "f16" if is_f16 else "bf16"
    lines = [f"mov.b32 wide, {0x64006400 if is_f16 else 0x43004300:#010x};"]
    for row, word in enumerate(("$4", "$5")):
        for pair in range(4):
            if pair:
                lines.append(f"shr.u32 moved, {word}, {4 * pair};")
            source = "moved" if pair else word
            lines.append(f"lop3.b32 of{row}_{pair}, {source}, 0x000F000F, wide, 0xEA;")
    for pair in (0, 2):
        weights = f"of0_{pair}, of1_{pair}, of0_{pair + 1}, of1_{pair + 1}"
        before = "$0, $1, $2, $3" if pair else "$10, $11, $12, $13"
        operands = f"{{$0, $1, $2, $3}}, {{{weights}}}, {{${6 + pair}, ${7 + pair}}}, {{{before}}}"
        lines.append(f"mma.sync.aligned.m16n8k16.row.col.f32.{of}.{of}.f32 {operands};")
    names = ", ".join(f"of{row}_{pair}" for row in range(2) for pair in range(4))
    return "{\n.reg .b32 wide, moved, " + names + ";\n" + "\n".join(lines) + "\n}"


@gluon.constexpr_function
def neighbours_apart() -> str:
    """Code that makes the pairs 0 and 4, 1 and 5, 2 and 6, 3 and 7 ($0 to $3) of eight neighbours of 16 bits ($4 to
    $7)."""
    lines = [
        f"prmt.b32 ${pair}, ${4 + pair // 2}, ${6 + pair // 2}, {0x7632 if pair % 2 else 0x5410:#06x};"
        for pair in range(4)
    ]
    return "\n".join(lines)
