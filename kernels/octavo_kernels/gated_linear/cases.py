"""The shapes that gated_linear is checked on, against skinny_linear's oracle and with its tolerances."""

from octavo_kernels.skinny_linear.cases import Case

CASES = (
    Case("8B shape, gated, 65 rows", 65, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 128 rows", 128, 4096, 14336, gate="silu"),
    Case("odd columns, gated, 100 rows", 100, 1032, 777, gate="gelu"),
    Case("less than a tile, gated, 70 rows", 70, 40, 24, bias=True, gate="gelu_tanh"),
)
