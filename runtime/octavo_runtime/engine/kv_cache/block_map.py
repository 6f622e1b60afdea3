"""The map of the KV cache that `octavo debug blocks` draws."""

from collections.abc import Sequence as Many

from octavo_runtime.engine.kv_cache.block_tables import BlockTables, blocks_of
from octavo_runtime.engine.request import Sequence
from octavo_runtime.protocol.messages import BlockMap


def block_map(tables: BlockTables, running: Many[Sequence]) -> BlockMap:
    """Who holds which block now."""
    pool, block_size = tables.pool, tables.block_size
    partly = tables.partly_filled(running)
    blocks = range(pool.num_blocks)
    return BlockMap(
        block_size=block_size,
        references=[pool.references(block) for block in blocks],
        cached=[pool.is_cached(block) for block in blocks],
        filled=[
            partly.get(block, block_size if pool.references(block) or pool.is_cached(block) else 0) for block in blocks
        ],
        tables={f"{one.request.id}/{one.index}": list(blocks_of(one)) for one in running},
    )
