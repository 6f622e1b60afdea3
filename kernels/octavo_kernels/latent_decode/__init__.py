"""Attention of one new token per sequence over the paged cache of latent attention (DeepSeek-V2, 2024): all heads see
one key, whose first entries are the value."""

from torch import Tensor


def latent_decode(
    q: Tensor,
    cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    rank: int,
    out: Tensor | None = None,
) -> Tensor:
    """Attention of each sequence's newest token over all its tokens, itself included, without expanding them: queries
    are already multiplied by what makes keys of latents, and the result has yet to be by what makes values of them.

    Args:
        q: [batch, heads, rank + rope], batch > 0, in the cache's dtype; the last dimension is contiguous.
        cache: [blocks, block_size, rank + rope], one layer, the new token included: latents, and behind each the
            rotated part of the key.
        block_tables: [batch, width] int32, each sequence's blocks in order; entries past its last block are ignored.
        seq_lens: [batch] int32, tokens of each sequence, the new one included; at least 1. On a GPU the last sequences
            may have 0, which is padding: their output means nothing.
        scale: factor of the scores.
        rank: entries of a latent.
        out: [batch, heads, rank], where to write; allocated if None.

    Returns:
        [batch, heads, rank], in q's dtype. Launches depend on shapes alone: one CUDA graph serves all lengths.
    """
    if q.device.type == "cuda":
        from octavo_kernels.latent_decode import triton

        return triton.latent_decode(q, cache, block_tables, seq_lens, scale, rank, out)
    from octavo_kernels.latent_decode import cpu

    return cpu.latent_decode(q, cache, block_tables, seq_lens, scale, rank, out)
