"""latent_decode in torch for the CPU: as all heads see the same keys, a sequence takes two products of matrices."""

from torch import Tensor
from torch.nn.functional import embedding


def latent_decode(
    q: Tensor,
    cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    rank: int,
    out: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.latent_decode`. The blocks of a cache must lie one behind another."""
    out = q.new_empty(*q.shape[:2], rank) if out is None else out
    _, block_size, width = cache.shape
    blocks = cache.view(-1, block_size * width)
    for sequence, length in enumerate(seq_lens.tolist()):
        table = block_tables[sequence, : -(-length // block_size)]
        keys = embedding(table, blocks).view(-1, width)[:length]
        shares = (q[sequence] @ keys.T).float().mul_(scale).softmax(-1)
        out[sequence] = shares.to(q.dtype) @ keys[:, :rank]
    return out
