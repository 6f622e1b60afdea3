"""The formats and shapes that quantized_linear is checked on, and random weights of them."""

import torch
from torch import Tensor

from octavo_kernels.quantized_linear import Factors
from octavo_kernels.quantized_linear.formats import EIGHT_BITS, FOUR_BITS, SUPER, Format

SHAPES = ((32, 32), (960, 576), (40, 64), (1, 96), (1001, 160))  # out, in
NESTED_SHAPES = ((32, 256), (72, 1024), (1, 512))

_NUMBERS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
FORMATS = {
    "4 bits": Format(4, offset=8),
    "4 bits, minimum": FOUR_BITS,
    "4 bits, numbers": Format(4, numbers=_NUMBERS),
    "4 bits, numbers, nested": Format(4, is_nested=True, numbers=_NUMBERS),
    "4 bits, minimum, nested": Format(4, is_nested=True, has_minimum=True),
    "4 bits, nested by 16": Format(4, 16, is_nested=True, offset=4),
    "4 bits, minimum, nested by 16": Format(4, 16, is_nested=True, has_minimum=True),
    "5 bits": Format(5, offset=16),
    "5 bits, minimum": Format(5, has_minimum=True),
    "5 bits, minimum, nested": Format(5, is_nested=True, has_minimum=True),
    "6 bits, nested by 16": Format(6, 16, is_nested=True, offset=32),
    "8 bits": EIGHT_BITS,
}

Groups = tuple[Tensor, Tensor, Tensor | None, Format, Factors | None]


def random_groups(bits: int, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Values, scales, and of 4 bits minimums."""
    return random_format(FOUR_BITS if bits == 4 else EIGHT_BITS, rows, columns)[:3]


def random_format(form: Format, rows: int, columns: int) -> Groups:
    """What `pack` takes."""
    generator = torch.Generator().manual_seed(rows)

    def whole(low: int, high: int, width: int) -> Tensor:
        kind = torch.uint8 if low == 0 else torch.int8
        return torch.randint(low, high, (rows, width), generator=generator, dtype=kind)

    def within_float16(width: int, signed: bool, size: float = 1.0) -> Tensor:
        draw = torch.randn if signed else torch.rand
        return (size * draw(rows, width, generator=generator)).half().float()

    values = whole(-128, 128, columns) if form.bits == 8 else whole(0, 2**form.bits, columns)
    width = columns // form.group
    if not form.is_nested:
        minimums = within_float16(width, signed=True) if form.has_minimum else None
        return values, within_float16(width, signed=False), minimums, form, None
    supers = columns // SUPER
    factors = Factors(
        within_float16(supers, signed=False, size=1 / 64),
        within_float16(supers, signed=True) if form.has_minimum else None,
    )
    return values, whole(-128, 128, width), whole(0, 256, width) if form.has_minimum else None, form, factors
