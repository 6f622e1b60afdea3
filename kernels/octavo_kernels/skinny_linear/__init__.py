"""A projection of few rows, whose weights come from memory as fast as it gives them."""

from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gpu import capability

MOST_ROWS = 64
HEAD_DIMS = 64, 128, 256
"""Of heads that skinny_rotary_write_kv turns."""


def skinny_linear(
    x: Tensor | BegunNorm,
    weight: Tensor,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """x @ weight.T + bias, for up to MOST_ROWS rows, where `fits` says so; summed in float32.

    Args:
        x: [rows, in], contiguous, or its norm, begun.
        weight: [out, in], contiguous; with a gate [2 * out, in].
        bias: a number for each of the weight's rows, of its dtype.
        out: [rows, out], contiguous, where to write; allocated if None.
        gate: what gate_mul makes of the product is computed with it, and not rounded in between.

    Returns:
        [rows, out], in the weight's dtype.
    """
    from octavo_kernels.skinny_linear import hopper

    return hopper.skinny_linear(x, weight, bias, out, gate)


def skinny_add_linear(
    x: Tensor, weight: Tensor, stream: Tensor, norm_weight: Tensor, eps: float, offset: float = 0.0
) -> BegunNorm:
    """Adds x @ weight.T to the residual stream, and begins its rms_norm, which is of the rounded sum.

    Args:
        x, weight: see skinny_linear; in bfloat16: what is not divided by its root mean square may be too large for
            float16.
        stream: [rows, out], contiguous, in the weight's dtype; overwritten.
        norm_weight: [out], in the weight's dtype.
        eps: added to the mean square.
        offset: added to norm_weight where it multiplies.
    """
    from octavo_kernels.skinny_linear import hopper

    return hopper.skinny_add_linear(x, weight, stream, norm_weight, eps, offset)


def skinny_rotary_write_kv(
    x: Tensor | BegunNorm,
    weight: Tensor,
    bias: Tensor | None,
    q: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
) -> None:
    """What rotary_write_kv makes of the queries, keys and values that skinny_linear brings, in one kernel.

    Args:
        x, bias: see skinny_linear.
        weight: [(heads + 2 * kv_heads) * head_dim, in], contiguous.
        q: [rows, heads, head_dim], where the turned queries are written; contiguous but for its rows.
        positions, slots: see `octavo_kernels.rotary_write_kv`.
        cos_sin: likewise; all of a head is turned.
        k_cache, v_cache: likewise, of the weight's dtype; head_dim is one of HEAD_DIMS.
    """
    from octavo_kernels.skinny_linear import hopper

    hopper.skinny_rotary_write_kv(x, weight, bias, q, positions, cos_sin, k_cache, v_cache, slots)


def fits(weight: Tensor) -> bool:
    """Whether there is a form for a weight [out, in] on its device: on Hopper, in 16 bits."""
    if weight.device.type != "cuda" or capability(weight.device) != (9, 0):
        return False
    # The tensor memory accelerator wants rows in steps of 16 bytes.
    return weight.itemsize == 2 and weight.is_contiguous() and weight.shape[1] % 8 == 0
