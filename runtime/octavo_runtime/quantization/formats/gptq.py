"""GPTQ (Frantar et al. 2022) in AutoGPTQ's layout: words along the inputs; the group of each input by itself where they
were quantised in another order; of the first version zero points less one."""

import torch

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme, UnsupportedQuantization
from octavo_runtime.quantization.stored_parts import FLOATS, Get, Has, Part, StoredForm, Weight
from octavo_runtime.quantization.unpacking import centred, centred_zeros, unpack_words


def form(scheme: Scheme) -> StoredForm:
    """See StoredForm."""
    bits, size = scheme.bits, scheme.group[1]
    in_word = 32 // bits

    def parts(weight: Weight, has: Has) -> dict[str, Part]:
        groups = weight.groups(size)
        found = {
            "qweight": Part(("I32",), (weight.columns // in_word, weight.rows)),
            "qzeros": Part(("I32",), (groups, weight.rows // in_word)),
            "scales": Part(FLOATS, (groups, weight.rows)),
        }
        # One group of all inputs has them in any order.
        needs_order = scheme.has_order and groups > 1
        return found | ({"g_idx": Part(("I32",), (weight.columns,))} if needs_order or has("g_idx") else {})

    def read(weight: Weight, has: Has, get: Get) -> GroupedMatrix:
        values = unpack_words(get("qweight").T.contiguous(), bits)
        zeros = unpack_words(get("qzeros"), bits).T.contiguous()
        if scheme.format == "gptq":
            zeros = (zeros + 1) & (2**bits - 1)
        order = group_order(get("g_idx"), size) if has("g_idx") else None
        return GroupedMatrix(
            centred(values if order is None else values[:, order], bits),
            get("scales").T.contiguous().float(),
            (1, size or weight.columns),
            centred_zeros(zeros, bits),
            order=order,
        )

    return StoredForm(("qweight",), parts, read)


def group_order(groups: torch.Tensor, size: int) -> torch.Tensor | None:
    """The order of the inputs in which groups [inputs] come one after another, each of `size` inputs (0: all of one
    group); None where they stand so. Raises UnsupportedQuantization where a group has other sizes."""
    plain = torch.arange(len(groups), device=groups.device) // (size or len(groups))
    order = groups.argsort(stable=True)
    if not groups[order].equal(plain.to(groups.dtype)):
        raise UnsupportedQuantization(f"g_idx must put {size} inputs into each group, got other numbers")
    return None if groups.equal(plain.to(groups.dtype)) else order
