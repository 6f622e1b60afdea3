"""Experts of a GGUF file that stay packed in MXFP4, in the order of octavo_kernels.experts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

# Tensors that run as one, which a file has apart.
JOINED = {"ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps")}
PACKED_KINDS = ("_blocks", "_scales")  # behind the name of a packed tensor
_GROUP = 32
_BLOCK = 1 + _GROUP // 2  # a scale's exponent, and the values


def stored_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the file's tensor, [experts, out, in], of which blocks or scales are asked for; of other tensors
    their own."""
    if name.endswith("_blocks"):
        return *shape[:2], shape[2] * _GROUP
    return (*shape[:2], shape[2] * _GROUP) if name.endswith("_scales") else shape


def packed_experts(name: str, parts: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    """The blocks [experts, out, in / 32, 16] or scales [experts, out, in / 32] of tensors [experts, out, bytes], whose
    rows stand under each other. GGUF has the first half of a group in the lower halves of its bytes; here a byte holds
    two neighbours."""
    found = []
    for data in parts:
        groups = torch.from_numpy(np.require(data, requirements=["C", "W"])).unflatten(-1, (-1, _BLOCK))
        if name.endswith("_scales"):
            found.append(groups[..., 0])
            continue
        values = torch.cat((groups[..., 1:] & 15, groups[..., 1:] >> 4), dim=-1)
        found.append(values[..., ::2] | values[..., 1::2] << 4)
    return torch.cat(found, dim=1)
