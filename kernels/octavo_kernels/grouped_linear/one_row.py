"""grouped_linear for Hopper, in Gluon, for one row, by weights of 4 bits in groups of 128: each thread loads all of the
weight that it multiplies at once, 16 bytes of two rows at a time, and unpacks it into the registers from which the
matrix units take it.

The operands change sides, so that rows of the weight fill the matrix units, whose other side has a warp's blocks of x
in its columns, the same ones for all that the warp multiplies: each block of the weight is multiplied by all of them,
and the sums of its own column are kept. So a thread has in the end the sums of two blocks, which it multiplies by their
scales, not each of the weights; other scales it does not load.

A program's warps share the columns of 16 rows, so that none waits for another before the sums of all are added, and
several programs of a processor wait for memory while one multiplies. All loads of the weight are asked for before the
kernel in front has ended. Numbers keep the order in which they are stored: those that come out of a word as a pair are
not neighbours, and x is paired likewise."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm, rows_of
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.grouped_linear.one_row_kernel import one_row_kernel
from octavo_kernels.hopper_products import no_arrivals
from octavo_kernels.strided import LayerCache, layer_cache

BLOCK = 128  # numbers of a group
_MOST_TILES = 16384


class Cut(NamedTuple):
    """How a product is cut: a program's warps multiply as many blocks of 16 rows of the weight each."""

    warps: int
    each: int  # blocks, up to 8: of so many the matrix units have columns
    registers: int = 128  # of a thread, at most


class Form(NamedTuple):
    """What a program is compiled for."""

    groups: int  # of columns
    each: int  # blocks of a row that a warp multiplies
    warps: int
    gated: bool = False
    half: int = 0  # of a head, where its entries are turned
    q_heads: int = 0
    kv_heads: int = 0
    block_size: int = 0
    tiles: int = 0  # whose sums of squares are read
    tile_stride: int = 1  # from one of these to the next


class Norm(NamedTuple):
    """What is read of a norm that is begun: see BegunNorm."""

    squares: Tensor
    eps: float


class Turn(NamedTuple):
    """Where queries, keys and values go, and how they are turned: see `grouped_rotary_write_kv`."""

    q: Tensor
    stride_q: int
    cache: LayerCache
    positions: Tensor
    cos_sin: Tensor
    slots: Tensor


class Adding(NamedTuple):
    """What a product is added to, and how the sum's norm is begun: see `grouped_add_linear`. squares: [tiles]."""

    stream: Tensor
    scaled: Tensor
    norm_weight: Tensor
    offset: float
    squares: Tensor


# More warps bring nothing: a step of one row of Llama-3.1-8B's shape takes 1.943 ms on an H200, and 1.950
# with eight warps of seven blocks for the down projection.
CUTS = (Cut(4, 8), Cut(4, 7), Cut(2, 8), Cut(4, 6), Cut(4, 5), Cut(2, 7), Cut(2, 6), Cut(2, 5), Cut(1, 8))


def cut_of(width: int) -> Cut:
    """The one for rows of so many numbers: by which a tile's programs have the fewest blocks, idle ones among them.
    Each program counts as a block more, so that few idle blocks are no reason for many programs; of equal ones it is
    the first of CUTS."""
    blocks = triton.cdiv(width, BLOCK)
    return min(CUTS, key=lambda cut: triton.cdiv(blocks, cut.warps * cut.each) * (cut.warps * cut.each + 1))


def fits(x: Tensor | BegunNorm, weight: GroupedWeights) -> bool:
    """Whether this form computes x [rows, in] by the weight: one row, and integers in groups of a block."""
    has_more = any(each is not None for each in (weight.codebook, weight.minimums, weight.factors, weight.upper))
    is_plain = weight.bits == 4 and weight.group == (1, BLOCK) and not (weight.interleaved or has_more or weight.offset)
    (columns, width), is_one = weight.shape, len(x) == 1 and rows_of(x).dtype != torch.float32
    return is_one and is_plain and width % BLOCK == 0 and columns <= 16 * _MOST_TILES


def grouped_linear(
    x: Tensor | BegunNorm,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
    cut: Cut | None = None,
) -> Tensor:
    """See `octavo_kernels.grouped_linear`. cut: that of `cut_of` if None, to measure others."""
    rows, columns = rows_of(x), weight.shape[0] // (1 if gate is None else 2)
    out = torch.empty(1, columns, dtype=rows.dtype, device=rows.device) if out is None else out
    _launch(x, weight, bias, out, cut, gate)
    return out


def grouped_add_linear(
    x: Tensor,
    weight: GroupedWeights,
    stream: Tensor,
    norm_weight: Tensor,
    eps: float,
    offset: float = 0.0,
    cut: Cut | None = None,
) -> BegunNorm:
    """See `octavo_kernels.grouped_linear`. cut: see `grouped_linear`."""
    squares = torch.empty(triton.cdiv(weight.shape[0], 16), 1, dtype=torch.float32, device=x.device)
    begun = BegunNorm(torch.empty_like(stream), squares, eps)
    adding = Adding(stream, begun.scaled, norm_weight, offset, squares)
    _launch(x, weight, None, stream, cut, adding=adding)
    return begun


def grouped_rotary_write_kv(
    x: Tensor | BegunNorm,
    weight: GroupedWeights,
    bias: Tensor | None,
    q: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
    cut: Cut | None = None,
) -> None:
    """See `octavo_kernels.grouped_linear`. cut: see `grouped_linear`."""
    turn = Turn(q, q.stride(0), layer_cache(k_cache, v_cache), positions, cos_sin, slots)
    _launch(x, weight, bias, q, cut, turn=turn)


def _launch(
    x: Tensor | BegunNorm,
    weight: GroupedWeights,
    bias: Tensor | None,
    out: Tensor,
    cut: Cut | None,
    gate: GatedActivation | None = None,
    turn: Turn | None = None,
    adding: Adding | None = None,
) -> None:
    rows, width = weight.shape
    columns, of_tile = (rows, 16) if gate is None else (rows // 2, 8)
    cut = cut or cut_of(width)
    form = Form(width // BLOCK, cut.each, cut.warps, gate is not None)
    if isinstance(x, BegunNorm):
        tiles, stride = x.squares.shape
        form = form._replace(tiles=tiles, tile_stride=stride)
    if turn is not None:
        block_size, kv_heads, head_dim = turn.cache.k.shape[1:]
        q_heads = turn.q.shape[1]
        form = form._replace(half=head_dim // 2, q_heads=q_heads, kv_heads=kv_heads, block_size=block_size)
    splits = triton.cdiv(form.groups, cut.warps * cut.each)
    programs = triton.cdiv(columns, of_tile) * splits
    one_row_kernel[(programs,)](
        rows_of(x).view(torch.int32),
        Norm(x.squares, x.eps) if isinstance(x, BegunNorm) else None,
        weight.values.view(torch.int32),
        weight.scales,
        weight.zeros,
        bias,
        out,
        turn,
        adding,
        torch.empty(programs * 16 if splits > 1 else 0, dtype=torch.float32, device=out.device),
        no_arrivals(out.device, _MOST_TILES),
        columns,
        FORM=form,
        BIAS=bias is not None,
        GATE=gate or "",
        SPLITS=splits,
        num_warps=cut.warps,
        maxnreg=cut.registers,
        launch_pdl=True,
    )
