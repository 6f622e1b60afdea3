"""write_kv in torch for the CPU."""

from torch import Tensor


def write_kv(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    """See `octavo_kernels.write_kv`. The blocks of a cache must lie one behind another."""
    if slots.numel() and int(slots.min()) < 0:
        used = slots >= 0
        k, v, slots = k[used], v[used], slots[used]
    k_cache.view(-1, *k.shape[1:]).index_copy_(0, slots, k)
    v_cache.view(-1, *v.shape[1:]).index_copy_(0, slots, v)
