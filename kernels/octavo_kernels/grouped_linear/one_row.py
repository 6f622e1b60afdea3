"""grouped_linear for Hopper, in Gluon, for one row, by weights of 4 bits in groups of 128: each thread loads all that
it multiplies at once, 16 bytes of two rows of the weight at a time, and unpacks it into the registers from which the
matrix units take it.

The operands change sides, so that rows of the weight fill the matrix units, whose other side has x in all of its
columns. A program's warps share the columns of 16 rows, so that none waits for another before the sums of all are
added, and several programs of a processor wait for memory while one multiplies. All loads of the weight are asked for
before the kernel in front has ended. Numbers keep the order in which they are stored: those that come out of a word as
a pair are not neighbours, and x lies in shared memory in the same order. A group's sum is multiplied by its scale, not
each of its weights."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.grouped_linear.one_row_kernel import one_row_kernel
from octavo_kernels.hopper_products import no_arrivals
from octavo_kernels.strided import LayerCache, layer_cache

BLOCK = 128  # numbers of a group
TOGETHER = 8  # blocks of a row that a warp multiplies
_REGISTERS = 128  # of a thread: four programs of four warps are on a processor
_MOST_TILES = 16384


class Form(NamedTuple):
    """What a program is compiled for."""

    groups: int  # of columns
    together: int  # blocks of a row that a warp multiplies
    warps: int
    gated: bool = False
    half: int = 0  # of a head, where its entries are turned
    q_heads: int = 0
    kv_heads: int = 0
    block_size: int = 0


class Turn(NamedTuple):
    """Where queries, keys and values go, and how they are turned: see `grouped_rotary_write_kv`."""

    q: Tensor
    stride_q: int
    cache: LayerCache
    positions: Tensor
    cos_sin: Tensor
    slots: Tensor


def fits(x: Tensor, weight: GroupedWeights) -> bool:
    """Whether this form computes x [rows, in] by the weight: one row, and integers in groups of a block."""
    has_more = any(each is not None for each in (weight.codebook, weight.minimums, weight.factors, weight.upper))
    is_plain = weight.bits == 4 and weight.group == (1, BLOCK) and not (weight.interleaved or has_more or weight.offset)
    (columns, width), is_one = weight.shape, len(x) == 1 and x.dtype != torch.float32
    return is_one and is_plain and width % BLOCK == 0 and columns <= 16 * _MOST_TILES


def warps_of(width: int) -> int:
    """How many share the columns of a tile in a program, for rows of so many numbers: such that fewest are idle."""
    blocks = triton.cdiv(width, BLOCK)
    return min((4, 2), key=lambda warps: triton.cdiv(blocks, warps * TOGETHER) * warps)


def grouped_linear(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
    warps: int | None = None,
) -> Tensor:
    """See `octavo_kernels.grouped_linear`. warps: as many as `warps_of` says if None, to measure others."""
    columns = weight.shape[0] // (1 if gate is None else 2)
    out = torch.empty(1, columns, dtype=x.dtype, device=x.device) if out is None else out
    form = _form(weight, warps)._replace(gated=gate is not None)
    _launch(x, weight, bias, out, None, columns, form, gate)
    return out


def grouped_rotary_write_kv(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None,
    q: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
) -> None:
    """See `octavo_kernels.grouped_linear`."""
    block_size, kv_heads, head_dim = k_cache.shape[1:]
    form = _form(weight)._replace(half=head_dim // 2, q_heads=q.shape[1], kv_heads=kv_heads, block_size=block_size)
    turn = Turn(q, q.stride(0), layer_cache(k_cache, v_cache), positions, cos_sin, slots)
    _launch(x, weight, bias, q, turn, len(weight.values), form, None)


def _form(weight: GroupedWeights, warps: int | None = None) -> Form:
    width = weight.shape[1]
    return Form(width // BLOCK, TOGETHER, warps or warps_of(width))


def _launch(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None,
    out: Tensor,
    turn: Turn | None,
    columns: int,
    form: Form,
    gate: GatedActivation | None,
) -> None:
    splits = triton.cdiv(form.groups, form.warps * form.together)
    programs = triton.cdiv(columns, 16 if gate is None else 8) * splits
    one_row_kernel[(programs,)](
        x.view(torch.int32),
        weight.values.view(torch.int32),
        weight.scales,
        weight.zeros,
        bias,
        out,
        turn,
        torch.empty(programs * 16 * 4 if splits > 1 else 0, dtype=torch.float32, device=x.device),
        no_arrivals(x.device, _MOST_TILES),
        columns,
        FORM=form,
        BIAS=bias is not None,
        GATE=gate or "",
        SPLITS=splits,
        num_warps=form.warps,
        maxnreg=_REGISTERS,
        launch_pdl=True,
    )
