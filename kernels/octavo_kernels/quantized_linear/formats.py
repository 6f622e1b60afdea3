"""How weights of few bits are stored: what a value stands for, and what scales it. Free of torch."""

from dataclasses import dataclass

SUPER = 256  # columns that share the factors of nested scales


@dataclass(frozen=True)
class Format:
    """A weight is scale * (value - offset) + minimum, where `group` columns of a row share scale and minimum.

    bits: of a value: 4, 5, 6, or 8 with a sign. numbers: what the values of 4 bits stand for, within 8 bits with a
    sign; None: themselves. is_nested: scales and minimums are whole numbers of 8 bits, scales with a sign and minimums
    without, times two factors, one for each, that SUPER columns of a row share. All other scales, minimums and factors
    are within float16."""

    bits: int
    group: int = 32
    is_nested: bool = False
    has_minimum: bool = False
    offset: int = 0
    numbers: tuple[int, ...] | None = None

    @property
    def columns(self) -> int:
        """Columns of a block, which is stored in one piece."""
        return SUPER if self.is_nested else self.group

    @property
    def groups(self) -> int:
        """Groups of a block."""
        return self.columns // self.group


FOUR_BITS = Format(4, has_minimum=True)
EIGHT_BITS = Format(8)
