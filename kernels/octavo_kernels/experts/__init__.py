"""The feed-forward block of a mixture of experts (Shazeer et al. 2017): each token goes through the few experts that a
router chose for it, each of them a gated MLP (SwiGLU, Shazeer 2020)."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.quantized_linear import PackedGroups


@dataclass(frozen=True)
class PackedWeights:
    """The projections of all experts in MXFP4 (Open Compute Project, Microscaling Formats, 2023): in groups of 32
    numbers of a row, each of 4 bits (sign, two bits of exponent, one of mantissa), with a power of two for each group.
    Both contiguous.

    blocks: [experts, out, in / 2] uint8; a byte holds two neighbours, the first in its low half. scales: [experts, out,
    in / 32] uint8, the exponents plus 127."""

    blocks: Tensor
    scales: Tensor

    @property
    def nbytes(self) -> int:
        return self.blocks.nbytes + self.scales.nbytes


@dataclass(frozen=True)
class StackedGroups:
    """The projections of all experts in groups that share a scale, which GPUs compute with: one weight [experts * out,
    in], an expert's rows under those of the one before. No group is of several experts."""

    weight: GroupedWeights
    num_experts: int

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def __getitem__(self, expert: int) -> GroupedWeights:
        """The weight of one expert, [out, in]."""
        rows = self.weight.shape[0] // self.num_experts
        return self.weight.rows(expert * rows, rows)


@dataclass(frozen=True)
class GroupedExperts:
    """The projections of all experts in groups that share a scale, which CPUs alone compute with: of each expert the
    parts of its rows, one under another where they are of several formats."""

    parts: tuple[tuple[PackedGroups, ...], ...]

    @property
    def nbytes(self) -> int:
        return sum(part.data.nbytes for parts in self.parts for part in parts)


@dataclass(frozen=True)
class Biases:
    """gate_up: [experts, 2 * inner]; down: [experts, hidden]; contiguous, of the hidden states' dtype."""

    gate_up: Tensor
    down: Tensor


Weights = Tensor | PackedWeights | StackedGroups | GroupedExperts


def experts(
    hidden: Tensor,
    gate_up: Weights,
    down: Weights,
    ids: Tensor,
    weights: Tensor,
    out: Tensor | None = None,
    biases: Biases | None = None,
    limit: float | None = None,
    among: int | None = None,
) -> Tensor:
    """The weighted sum of what the chosen experts make of each token: down(silu(gate(x)) * up(x)).

    Nothing waits for the device, so that it can be captured; the same inputs bring the same bits.

    Args:
        hidden: [tokens, hidden]; the last dimension is contiguous.
        gate_up: [experts, 2 * inner, hidden], contiguous, of hidden's dtype, or packed; the gates are the first rows of
            an expert.
        down: [experts, hidden, inner], likewise.
        ids: [tokens, k] int64, contiguous; the experts of each token. What is no number of an expert here, as of those
            that other devices have, adds nothing.
        weights: [tokens, k] float32, contiguous; of their results.
        out: [tokens, hidden], contiguous, where to write; allocated if None.
        biases: of both projections, if they have some.
        limit: gates are cut to at most that, ups to at most that in magnitude, and between the projections comes
            gate * sigmoid(1.702 * gate) * (up + 1) (gpt-oss, 2025).
        among: how many experts those of a token were chosen among, where other devices have some of them: what is
            fastest depends on how many rows come to each one here.

    Returns:
        [tokens, hidden], in hidden's dtype.
    """
    if hidden.device.type == "cuda":
        from octavo_kernels.experts import hopper, triton

        if hopper.suits(hidden, gate_up, down, ids.numel(), among):
            return hopper.experts(hidden, gate_up, down, ids, weights, out, biases, limit, among)
        return triton.experts(hidden, gate_up, down, ids, weights, out, biases, limit, among)
    from octavo_kernels.experts import cpu

    return cpu.experts(hidden, gate_up, down, ids, weights, out, biases, limit)
