"""The sequences' block tables: where each one's keys and values lie, in the KV cache or in host memory.

All that the KV cache must copy on the way is noted as moves, in the order in which it must happen. Free of torch."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Many

from octavo_runtime.engine.kv_cache.block_pool import BlockPool, IntegrityError
from octavo_runtime.engine.request import Sequence
from octavo_runtime.protocol.step import Move, MoveKind


class BlockTables:
    """Gives sequences their blocks and takes them back.

    A block that several sequences hold (a fork's, or a cached prefix) is only read; a sequence that must write into one
    gets a copy of its own first (copy-on-write). keeps_tokens: False where the model has no KV cache: then nobody holds
    any block."""

    def __init__(
        self,
        pool: BlockPool,
        host_pool: BlockPool,
        block_size: int,
        *,
        prefix_caching: bool,
        keeps_tokens: bool = True,
    ) -> None:
        self.pool = pool
        self.host_pool = host_pool
        self.block_size = block_size
        self.prefix_queries = 0
        self.prefix_hits = 0
        self._keeps_tokens = keeps_tokens
        self._prefix_caching = prefix_caching and keeps_tokens
        self._moves: list[Move] = []

    def num_blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size) if self._keeps_tokens else 0

    def enter(self, sequence: Sequence) -> bool:
        """Blocks for all known tokens of a sequence that holds none, its cached prefix or its blocks in host memory
        used; `computed` says how much of them is there already. False, and nothing changed, where too few are free."""
        return self._swap_in(sequence) if sequence.is_swapped else self._start(sequence)

    def next_missing(self, sequence: Sequence) -> bytes | None:
        """The hash of the first full block that a waiting sequence would have to compute itself; None where only less
        than a block is missing. Nothing behind that block is hashed."""
        if not self._uses_prefix(sequence):
            return None
        return next((content for content in self._prefix_hashes(sequence) if not self.pool.knows(content)), None)

    def upcoming(self, sequences: Iterable[Sequence]) -> set[bytes]:
        """Hashes of the full blocks of known tokens that running sequences have yet to compute."""
        if not self._prefix_caching:
            return set()
        return {
            sequence.block_hash(entry, self.block_size)
            for sequence in sequences
            if sequence.known - sequence.computed > 1
            for entry in range(sequence.computed // self.block_size, sequence.known // self.block_size)
        }

    def extend(self, sequence: Sequence, count: int) -> bool:
        """Makes the `count` positions behind those computed writable. False, and nothing changed, where too few blocks
        are free."""
        table, pool, start = sequence.block_table, self.pool, sequence.computed
        if start + count <= sequence.writable:
            return True
        first, needed = start // self.block_size, (start + count - 1) // self.block_size + 1
        shared = [entry for entry in range(first, min(needed, len(table))) if pool.references(table[entry]) > 1]
        further = max(0, needed - len(table))
        if len(shared) + further > pool.num_free:
            return False
        for entry in shared:  # others hold them too, and the next tokens would be written into them
            [copy] = pool.allocate(1)
            self._moves.append(Move(MoveKind.COPY, table[entry], copy))
            pool.release([table[entry]])
            table[entry] = copy
            sequence.synced = min(sequence.synced, entry)
        table += pool.allocate(further)
        sequence.writable = len(table) * self.block_size
        return True

    def advance(self, sequences: Iterable[Sequence], counts: Iterable[int]) -> None:
        """So many tokens more of each sequence are computed, and the blocks that they complete can be found."""
        size, caching = self.block_size, self._prefix_caching
        for sequence, count in zip(sequences, counts, strict=True):
            computed = sequence.computed = sequence.computed + count
            if caching and computed // size > sequence.published:
                self._publish(sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child holds the parent's blocks too, as far as they are computed."""
        child.block_table = parent.block_table[: self.num_blocks(parent.computed)]
        child.computed, child.published = parent.computed, parent.published
        parent.writable = child.writable = 0
        self.pool.hold(child.block_table)

    def truncate(self, sequence: Sequence, tokens: int) -> None:
        """Gives back the slots behind the first `tokens` (rollback of tokens that were computed in vain). What the
        prefix cache was told of cannot be taken back."""
        if tokens < sequence.published * self.block_size:
            raise IntegrityError(
                f"{sequence.request.id}: cut to {tokens} tokens, but {sequence.published} blocks are published"
            )
        keep = self.num_blocks(tokens)
        self.pool.release(sequence.block_table[keep:])
        del sequence.block_table[keep:]
        sequence.computed = min(sequence.computed, tokens)
        sequence.synced, sequence.writable = min(sequence.synced, keep), 0

    def release(self, sequence: Sequence) -> None:
        """Gives back all blocks, those in host memory too; nothing of the sequence is computed then."""
        if not sequence.is_swapped:
            self._publish(sequence)  # tokens may have become known since
        self.pool.release(sequence.block_table)
        self.host_pool.release(sequence.host_blocks)
        sequence.block_table, sequence.host_blocks = [], []
        sequence.computed = sequence.published = sequence.synced = sequence.writable = 0

    def can_swap_out(self, sequence: Sequence) -> bool:
        return not sequence.request.reads_all and 0 < self.num_blocks(sequence.computed) <= self.host_pool.num_free

    def swap_out(self, sequence: Sequence) -> None:
        """Moves what is computed to host memory and gives the blocks back. Raises OutOfBlocks."""
        kept = sequence.block_table[: self.num_blocks(sequence.computed)]
        sequence.host_blocks = self.host_pool.allocate(len(kept))
        self._moves += [
            Move(MoveKind.SWAP_OUT, block, host) for block, host in zip(kept, sequence.host_blocks, strict=True)
        ]
        self.pool.release(sequence.block_table)
        sequence.block_table = []
        sequence.published = sequence.synced = sequence.writable = 0

    def take_moves(self) -> list[Move]:
        """The moves noted since the last call, in order."""
        moves, self._moves = self._moves, []
        return moves

    def slots_wasted(self, sequences: Iterable[Sequence]) -> int:
        """Slots in held blocks that hold no token."""
        wasted, others = 0, []
        for sequence in sequences:
            if sequence.writable:
                wasted += sequence.writable - sequence.computed
            else:
                others.append(sequence)
        return wasted + sum(self.block_size - tokens for tokens in self.partly_filled(others).values())

    def partly_filled(self, sequences: Iterable[Sequence]) -> dict[int, int]:
        """The held blocks that are not full, and how many of their slots hold a token."""
        filled: dict[int, int] = {}
        for sequence in sequences:
            first = sequence.computed // self.block_size
            for entry, block in enumerate(sequence.block_table[first:], start=first):
                tokens = max(sequence.computed - entry * self.block_size, 0)
                filled[block] = max(filled.get(block, 0), tokens)
        return filled

    def proof(self, sequences: Many[Sequence]) -> Iterator[None]:
        """Proves, some blocks at a time, that each block, here and in host memory, is free or held as often as the
        tables of these sequences name it. Raises IntegrityError. All must stay as it is meanwhile."""
        yield from self.pool.proof(sequence.block_table for sequence in sequences)
        yield from self.host_pool.proof(sequence.host_blocks for sequence in sequences)

    def _publish(self, sequence: Sequence) -> None:
        """Tells the prefix cache which of the sequence's blocks are complete by now."""
        full = min(sequence.computed, sequence.known - sequence.unknown) // self.block_size
        if not self._prefix_caching or full <= sequence.published:
            return
        for entry in range(sequence.published, full):
            self.pool.publish(sequence.block_table[entry], sequence.block_hash(entry, self.block_size))
        sequence.published = full

    def _start(self, sequence: Sequence) -> bool:
        looks_up = self._uses_prefix(sequence)
        cached = self.pool.find(self._prefix_hashes(sequence)) if looks_up else []
        needed = self.num_blocks(sequence.known) - len(cached)
        if needed + self.pool.num_unheld(cached) > self.pool.num_free:
            return False
        self.pool.hold(cached)
        sequence.block_table = cached + self.pool.allocate(needed)
        sequence.published = len(cached)
        sequence.computed = len(cached) * self.block_size
        if looks_up and not sequence.started:
            self.prefix_queries += sequence.request.prompt_len
            self.prefix_hits += sequence.computed
            sequence.cached_tokens = sequence.computed
        return True

    def _swap_in(self, sequence: Sequence) -> bool:
        needed = self.num_blocks(sequence.known)
        if needed > self.pool.num_free:
            return False
        sequence.block_table = self.pool.allocate(needed)
        self._moves += [
            Move(MoveKind.SWAP_IN, host, block)
            for host, block in zip(sequence.host_blocks, sequence.block_table, strict=False)
        ]
        self.host_pool.release(sequence.host_blocks)
        sequence.host_blocks = []
        return True

    def _uses_prefix(self, sequence: Sequence) -> bool:
        # Scores of prompt tokens, and their mean, come from computing them.
        computes_all = sequence.request.params.prompt_logprobs is not None or sequence.request.reads_all
        return self._prefix_caching and not sequence.is_swapped and not computes_all

    def _prefix_hashes(self, sequence: Sequence) -> Iterator[bytes]:
        """Full blocks that may be taken from the cache: at least one token must be computed, to have a successor."""
        return (sequence.block_hash(entry, self.block_size) for entry in range((sequence.known - 1) // self.block_size))
