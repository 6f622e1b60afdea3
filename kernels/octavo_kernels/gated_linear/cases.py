"""The shapes that gated_linear is checked on, against skinny_linear's oracle and with its tolerances."""

from octavo_kernels.skinny_linear.cases import Case

CASES = (
    Case("8B shape, gated, 65 rows", 65, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 128 rows", 128, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 256 rows", 256, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 1,000 rows", 1000, 4096, 14336, gate="silu"),
    Case("8B shape, gated, 2,048 rows", 2048, 1024, 14336, gate="silu"),
    Case("more bands than one, gated, a bias", 1700, 256, 900, bias=True, gate="silu"),
    Case("fewer steps than stages, gated", 1537, 136, 4000, gate="silu"),
    Case("odd columns, gated, 100 rows", 100, 1032, 777, gate="gelu"),
    Case("less than a tile, gated, 70 rows", 70, 40, 24, bias=True, gate="gelu_tanh"),
)
