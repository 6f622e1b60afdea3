"""The quantised types of GGUF files (github.com/ggml-org/ggml, src/ggml-common.h) as matrices in groups, which mean the
same to the last bit. All are little-endian; d and m are float16."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.quantized_linear import Factors
from octavo_kernels.quantized_linear.formats import EIGHT_BITS, FOUR_BITS, Format
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix

_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_FP4 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # doubled

# The bits of a byte, a byte each, as one word.
_BITS = (torch.arange(256).unsqueeze(-1) >> torch.arange(8) & 1).to(torch.uint8).view(torch.int64).squeeze(-1)

# Types that are read as they are.
PLAIN = ("F32", "F16", "BF16")


def quantized_matrix(kind: str, data: npt.NDArray[np.uint8]) -> QuantizedMatrix | None:
    """A matrix of a type of PACKED from its rows of blocks [rows, bytes]. None where its scales leave float16, as the
    powers of two of MXFP4 may."""
    read, size = _READERS[kind]
    return read(torch.from_numpy(np.require(data, requirements=["C", "W"])).unflatten(1, (-1, size)))


def _halves(blocks: Tensor, width: int) -> Tensor:
    """Values of 4 bits, of `width` bytes the lower halves, then the upper ones: [rows, blocks, 2 * bytes]."""
    runs = blocks.unflatten(-1, (-1, width))
    return torch.cat((runs & 15, runs >> 4), dim=-1).flatten(-2)


def _float16(two_bytes: Tensor) -> Tensor:
    """[rows, blocks] float32."""
    return two_bytes.contiguous().view(torch.float16).float().squeeze(-1)


def _bits(packed: Tensor) -> Tensor:
    """The bits of little-endian words, the lowest first: [..., 8 * bytes]."""
    return _BITS[packed.int()].view(torch.uint8)


def _q4_0(blocks: Tensor) -> QuantizedMatrix:
    return QuantizedMatrix(
        _halves(blocks[..., 2:], 16).flatten(1), _float16(blocks[..., :2]), None, Format(4, offset=8)
    )


def _q4_1(blocks: Tensor) -> QuantizedMatrix:
    scales, minimums = _float16(blocks[..., :2]), _float16(blocks[..., 2:4])
    return QuantizedMatrix(_halves(blocks[..., 4:], 16).flatten(1), scales, minimums, FOUR_BITS)


def _q5_0(blocks: Tensor) -> QuantizedMatrix:
    values = _halves(blocks[..., 6:], 16) | _bits(blocks[..., 2:6]) << 4
    return QuantizedMatrix(values.flatten(1), _float16(blocks[..., :2]), None, Format(5, offset=16))


def _q5_1(blocks: Tensor) -> QuantizedMatrix:
    values = _halves(blocks[..., 8:], 16) | _bits(blocks[..., 4:8]) << 4
    scales, minimums = _float16(blocks[..., :2]), _float16(blocks[..., 2:4])
    return QuantizedMatrix(values.flatten(1), scales, minimums, Format(5, has_minimum=True))


def _q8_0(blocks: Tensor) -> QuantizedMatrix:
    values = blocks[..., 2:].contiguous().view(torch.int8)
    return QuantizedMatrix(values.flatten(1), _float16(blocks[..., :2]), None, EIGHT_BITS)


def _q2_k(blocks: Tensor) -> QuantizedMatrix:
    """16 bytes with a scale below and a minimum above, 64 bytes of values, d, m."""
    both = blocks[..., :16]
    values = _two_bits(blocks[..., 16:80])
    form = Format(4, 16, is_nested=True, has_minimum=True)
    return _nested(values, both & 15, both >> 4, form, blocks[..., 80:82], blocks[..., 82:])


def _q3_k(blocks: Tensor) -> QuantizedMatrix:
    """32 bytes with the third bits, 64 with the others, 12 with scales of 6 bits, d."""
    upper = blocks[..., None, :32] >> torch.arange(8, dtype=torch.uint8).unsqueeze(-1) & 1  # [..., 8 times 32]
    values = _two_bits(blocks[..., 32:96]) | upper.flatten(-2) << 2
    low = _halves(blocks[..., 96:104], 8)
    high = blocks[..., None, 104:108] >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8).unsqueeze(-1) & 3
    scales = (low | high.flatten(-2) << 4).to(torch.int8) - 32
    return _nested(values, scales, None, Format(4, 16, is_nested=True, offset=4), blocks[..., 108:])


def _two_bits(packed: Tensor) -> Tensor:
    """Each 32 bytes hold four runs of 32 values."""
    runs: Tensor = packed.unflatten(-1, (-1, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8).unsqueeze(-1) & 3
    return runs.flatten(-3)


def _q4_k(blocks: Tensor) -> QuantizedMatrix:
    """d, m, 12 bytes with scales and minimums of 6 bits, 128 with values."""
    scales, minimums = _six_bits(blocks[..., 4:16])
    form = Format(4, is_nested=True, has_minimum=True)
    return _nested(_halves(blocks[..., 16:], 32), scales, minimums, form, blocks[..., :2], blocks[..., 2:4])


def _q5_k(blocks: Tensor) -> QuantizedMatrix:
    """As Q4_K, with 32 bytes of fifth bits before the others."""
    scales, minimums = _six_bits(blocks[..., 4:16])
    upper = blocks[..., None, 16:48] >> torch.arange(8, dtype=torch.uint8).unsqueeze(-1) & 1
    values = _halves(blocks[..., 48:], 32) | upper.flatten(-2) << 4
    form = Format(5, is_nested=True, has_minimum=True)
    return _nested(values, scales, minimums, form, blocks[..., :2], blocks[..., 2:4])


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minimums: four of each whole, the others cut in two."""
    first, second, third = packed.split(4, dim=-1)
    scales = torch.cat((first & 63, third & 15 | first >> 2 & 48), dim=-1)
    return scales, torch.cat((second & 63, third >> 4 | second >> 2 & 48), dim=-1)


def _q6_k(blocks: Tensor) -> QuantizedMatrix:
    """128 bytes with the lower four bits, 64 with the upper two, 16 scales of 8 bits, d."""
    low = _halves(blocks[..., :128], 64)
    values = low | _two_bits(blocks[..., 128:192]) << 4
    scales = blocks[..., 192:208].contiguous().view(torch.int8)
    return _nested(values, scales, None, Format(6, 16, is_nested=True, offset=32), blocks[..., 208:])


def _iq4_nl(blocks: Tensor) -> QuantizedMatrix:
    values = _halves(blocks[..., 2:], 16)
    return QuantizedMatrix(values.flatten(1), _float16(blocks[..., :2]), None, Format(4, numbers=_IQ4))


def _iq4_xs(blocks: Tensor) -> QuantizedMatrix:
    """d, 8 scales of 6 bits (two bytes with the upper bits, four with the lower), 128 bytes of values."""
    low = torch.stack((blocks[..., 4:8] & 15, blocks[..., 4:8] >> 4), dim=-1).flatten(-2)
    high = blocks[..., 2:4].unsqueeze(-1) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8) & 3
    scales = (low | high.flatten(-2) << 4).to(torch.int8) - 32
    return _nested(_halves(blocks[..., 8:], 16), scales, None, Format(4, is_nested=True, numbers=_IQ4), blocks[..., :2])


def _mxfp4(blocks: Tensor) -> QuantizedMatrix | None:
    """The exponent of a scale, 16 bytes of values."""
    scales = torch.exp2(blocks[..., 0].float() - 128)
    if not scales.half().float().equal(scales):
        return None
    return QuantizedMatrix(_halves(blocks[..., 1:], 16).flatten(1), scales, None, Format(4, numbers=_FP4))


def _nested(
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    form: Format,
    of_scales: Tensor,
    of_minimums: Tensor | None = None,
) -> QuantizedMatrix:
    """GGUF subtracts minimums."""
    factors = Factors(_float16(of_scales), None if of_minimums is None else -_float16(of_minimums))
    flat = None if minimums is None else minimums.flatten(1)
    return QuantizedMatrix(values.flatten(1), scales.flatten(1), flat, form, factors)


_READERS: dict[str, tuple[Callable[[Tensor], QuantizedMatrix | None], int]] = {
    "Q4_0": (_q4_0, 18),
    "Q4_1": (_q4_1, 20),
    "Q5_0": (_q5_0, 22),
    "Q5_1": (_q5_1, 24),
    "Q8_0": (_q8_0, 34),
    "Q2_K": (_q2_k, 84),
    "Q3_K": (_q3_k, 110),
    "Q4_K": (_q4_k, 144),
    "Q5_K": (_q5_k, 176),
    "Q6_K": (_q6_k, 210),
    "IQ4_NL": (_iq4_nl, 18),
    "IQ4_XS": (_iq4_xs, 136),
    "MXFP4": (_mxfp4, 17),
}
PACKED = tuple(_READERS)
"""Types that stay in groups."""
