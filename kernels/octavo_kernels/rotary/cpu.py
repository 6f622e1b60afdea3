"""rotary in torch for the CPU, in as few torch calls as possible: at small batches each call's overhead is its cost."""

from torch import Tensor


def rotary(q: Tensor, k: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
    """See `octavo_kernels.rotary`."""
    half = q.shape[-1] // 2
    cos, sin = cos_sin.index_select(0, positions).view(-1, 1, 2, half).unbind(-2)
    if _is_next_to(q, k):
        shape = (q.shape[0], q.shape[1] + k.shape[1], q.shape[2])
        _rotate(q.as_strided(shape, q.stride()), cos, sin)
    else:
        _rotate(q, cos, sin)
        _rotate(k, cos, sin)


def _is_next_to(q: Tensor, k: Tensor) -> bool:
    """Whether the heads of k lie right behind those of q, as in the fused output of the QKV projection."""
    return (
        k.untyped_storage().data_ptr() == q.untyped_storage().data_ptr()
        and k.storage_offset() == q.storage_offset() + q.shape[1] * q.stride(1)
        and k.stride() == q.stride()
    )


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """heads: [tokens, heads, head_dim]; cos, sin: [tokens, 1, head_dim / 2] float32."""
    halves = heads.view(*heads.shape[:2], 2, heads.shape[2] // 2)
    first, second = halves.float().unbind(-2)
    rotated = halves * cos.unsqueeze(-2)
    rotated_first, rotated_second = rotated.unbind(-2)
    rotated_first.addcmul_(second, sin, value=-1)
    rotated_second.addcmul_(first, sin)
    halves.copy_(rotated)
