"""The oracle of peer_sum and peer_sum_add_rms_norm, given what each GPU brings."""

from collections.abc import Sequence

from torch import Tensor

from octavo_kernels.add_rms_norm.reference import add_rms_norm


def peer_sum(brought: Sequence[Tensor]) -> Tensor:
    """The sum of tensors [tokens, hidden], in float32 in their order, in their type."""
    total = brought[0].float()
    for tensor in brought[1:]:
        total = total + tensor.float()
    return total.to(brought[0].dtype)


def peer_sum_add_rms_norm(
    brought: Sequence[Tensor], stream: Tensor, weight: Tensor, eps: float, multiplier: float, offset: float
) -> tuple[Tensor, Tensor]:
    """(the normalised sum, the stream that it was added to), each [tokens, hidden]."""
    return add_rms_norm(peer_sum(brought), stream, weight, eps, None, multiplier, offset)
