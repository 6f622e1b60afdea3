"""The shapes that quantized_linear is checked on, and random weights in groups."""

import torch
from torch import Tensor

from octavo_kernels.quantized_linear import GROUP

SHAPES = ((32, 32), (960, 576), (40, 64), (1, 96), (1001, 160))  # out, in


def random_groups(bits: int, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Values, scales, and of 4 bits minimums."""
    generator = torch.Generator().manual_seed(rows)
    scales = torch.rand(rows, columns // GROUP, generator=generator).half().float()
    if bits == 8:
        return torch.randint(-128, 128, (rows, columns), generator=generator, dtype=torch.int8), scales, None
    values = torch.randint(0, 16, (rows, columns), generator=generator, dtype=torch.uint8)
    return values, scales, torch.randn(rows, columns // GROUP, generator=generator).half().float()
