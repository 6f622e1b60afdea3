"""Where the KV cache has a layer's keys and values. Free of torch."""

from typing import NamedTuple


class CachePlace(NamedTuple):
    """`group`: of layers that share block tables; `layer`: along the cache's first dimension."""

    group: int
    layer: int
