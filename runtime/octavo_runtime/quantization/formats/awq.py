"""AWQ (Lin et al. 2023) in AutoAWQ's GEMM layout: words along the outputs, with zero points."""

import torch

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme
from octavo_runtime.quantization.stored_parts import FLOATS, Get, Has, Part, StoredForm, Weight
from octavo_runtime.quantization.unpacking import unpack_words

# Which 4 bits of a word, from the lowest on, the outputs 0 to 7 of it are in.
PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


def form(scheme: Scheme) -> StoredForm:
    """See StoredForm."""
    size = scheme.group[1]

    def parts(weight: Weight, _: Has) -> dict[str, Part]:
        groups, words = weight.groups(size), weight.rows // 8
        return {
            "qweight": Part(("I32",), (weight.columns, words)),
            "qzeros": Part(("I32",), (groups, words)),
            "scales": Part(FLOATS, (groups, weight.rows)),
        }

    def read(weight: Weight, _: Has, get: Get) -> GroupedMatrix:
        return GroupedMatrix(
            _unpack(get("qweight")).T.contiguous(),
            get("scales").T.contiguous().float(),
            (1, size or weight.columns),
            _unpack(get("qzeros")).T.contiguous().float(),
        )

    return StoredForm(("qweight",), parts, read)


def _unpack(words: torch.Tensor) -> torch.Tensor:
    numbers: torch.Tensor = unpack_words(words, 4).unflatten(-1, (-1, 8))
    return numbers[..., PLACES].flatten(-2)
