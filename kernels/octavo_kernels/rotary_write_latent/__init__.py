"""The rotary position embedding in latent attention (DeepSeek-V2, 2024), where a part of each head is turned, and
storing the new tokens' latents in the paged cache."""

from torch import Tensor


def rotary_write_latent(
    q: Tensor, latent: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor, cache: Tensor, slots: Tensor
) -> None:
    """Rotate the queries' turned part in place and the key's, which all heads share, by their positions, computing in
    float32; write the latents, and behind them the rotated keys, into their slots.

    Args:
        q: [tokens, heads, rope]; a view of the last entries of each head will do, if its last dimension is contiguous.
        latent: [tokens, rank]; key: [tokens, rope]; their last dimension is contiguous. All of the cache's dtype.
        positions: [tokens] int64, below the length of `cos_sin`.
        cos_sin: [positions, rope] float32: rope / 2 cosines, then as many sines.
        cache: [blocks, block_size, rank + rope], one layer.
        slots: [tokens] int64, block * block_size + offset in the block; -1 writes nothing (padding).
    """
    if q.device.type == "cuda":
        from octavo_kernels.rotary_write_latent import triton

        triton.rotary_write_latent(q, latent, key, positions, cos_sin, cache, slots)
    else:
        from octavo_kernels.rotary_write_latent import cpu

        cpu.rotary_write_latent(q, latent, key, positions, cos_sin, cache, slots)
