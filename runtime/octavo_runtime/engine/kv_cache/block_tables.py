"""The sequences' block tables: where each one's keys and values lie, in the KV cache or in host memory.

All that the KV cache must copy on the way is noted as moves, in the order in which it must happen. Free of torch."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Many

from octavo_runtime.engine.kv_cache.block_pool import BlockPool
from octavo_runtime.engine.kv_cache.block_table import BlockTable, new_table
from octavo_runtime.engine.request import Sequence
from octavo_runtime.protocol.step import Move, MoveKind


class BlockTables:
    """Gives sequences their blocks and takes them back.

    A block that several sequences hold (a fork's, or a cached prefix) is only read; a sequence that must write into one
    gets a copy of its own first (copy-on-write). A sequence has a table for each group of layers: `windows` are those
    of the groups, first None where their layers see all tokens; there is at most one window, and no group where the
    model has no KV cache. Once a block lies behind the window of what comes next, it is given back. step_tokens: most
    that a step computes of one sequence."""

    def __init__(
        self,
        pool: BlockPool,
        host_pool: BlockPool,
        block_size: int,
        *,
        prefix_caching: bool,
        windows: Many[int | None],
        step_tokens: int,
    ) -> None:
        self.pool = pool
        self.host_pool = host_pool
        self.block_size = block_size
        self.prefix_queries = 0
        self.prefix_hits = 0
        self._windows = windows
        self._window = windows[-1] if windows else None
        self._sliding = [group for group, window in enumerate(windows) if window is not None]
        self._step_tokens = step_tokens
        self._prefix_caching = prefix_caching and bool(windows)
        self._moves: list[Move] = []

    def num_blocks(self, tokens: int) -> int:
        """Blocks of one group that hold so many tokens."""
        return -(-tokens // self.block_size)

    def enter(self, sequence: Sequence) -> bool:
        """Blocks for all known tokens of a sequence that holds none, in groups with a window for those of the next
        step, its cached prefix or its blocks in host memory used; `computed` says how much of them is there already.
        False, and nothing changed, where too few are free."""
        return self._swap_in(sequence) if sequence.is_swapped else self._start(sequence)

    def next_missing(self, sequence: Sequence) -> bytes | None:
        """The hash of the first full block that a waiting sequence would have to compute itself; None where only less
        than a block is missing. Nothing behind that block is hashed, unless all layers have a window."""
        if not self._uses_prefix(sequence):
            return None
        entries = self._cached(sequence)[0].end
        return sequence.block_hash(entries, self.block_size) if entries < self._most_cached(sequence) else None

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
        tables, pool, start = sequence.tables, self.pool, sequence.computed
        if start + count <= sequence.writable:
            return True
        first, needed = start // self.block_size, (start + count - 1) // self.block_size + 1
        shared = [
            (table, entry)
            for table in tables
            for entry in range(first, min(needed, table.end))
            if pool.references(table[entry]) > 1
        ]
        further = [max(0, needed - table.end) for table in tables]
        if len(shared) + sum(further) > pool.num_free:
            return False
        for table, entry in shared:  # others hold them too, and the next tokens would be written into them
            [copy] = pool.allocate(1)
            self._moves.append(Move(MoveKind.COPY, table[entry], copy))
            pool.release([table[entry]])
            table[entry] = copy
            table.synced = min(table.synced, entry)
        for table, more in zip(tables, further, strict=True):
            table.blocks += pool.allocate(more)
        sequence.writable = min(table.end for table in tables) * self.block_size
        sequence.tables_changed = True
        return True

    def advance(self, sequences: Iterable[Sequence], counts: Iterable[int]) -> None:
        """So many tokens more of each sequence are computed. The blocks that they complete can be found, and those
        behind the window are free."""
        size, caching, window = self.block_size, self._prefix_caching, self._window
        for sequence, count in zip(sequences, counts, strict=True):
            computed = sequence.computed = sequence.computed + count
            if caching and computed // size > sequence.published:
                self._publish(sequence)
            if window is not None and (computed - window + 1) // size > sequence.tables[-1].first:
                self._shed(sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child holds the parent's blocks too, as far as they are computed."""
        entries = self.num_blocks(parent.computed)
        child.tables = [new_table(table.first, table.before(entries)) for table in parent.tables]
        child.tables_changed = True
        child.computed, child.published = parent.computed, parent.published
        parent.writable = child.writable = 0
        self.pool.hold(blocks_of(child))

    def release(self, sequence: Sequence) -> None:
        """Gives back all blocks, those in host memory too; nothing of the sequence is computed then."""
        if not sequence.is_swapped:
            self._publish(sequence)  # tokens may have become known since
        self.pool.release(blocks_of(sequence))
        self.host_pool.release([block for table in sequence.host_tables for block in table.blocks])
        sequence.tables, sequence.host_tables = [], []
        sequence.computed = sequence.published = sequence.writable = 0

    def can_swap_out(self, sequence: Sequence) -> bool:
        return not sequence.request.reads_all and 0 < num_filled(sequence, self.block_size) <= self.host_pool.num_free

    def swap_out(self, sequence: Sequence) -> None:
        """Moves what is computed to host memory and gives the blocks back. Raises OutOfBlocks."""
        entries = self.num_blocks(sequence.computed)
        for table in sequence.tables:
            kept = table.before(entries)
            host = self.host_pool.allocate(len(kept))
            sequence.host_tables.append(new_table(table.first, host))
            self._moves += [Move(MoveKind.SWAP_OUT, *pair) for pair in zip(kept, host, strict=True)]
        self.pool.release(blocks_of(sequence))
        sequence.tables = []
        sequence.published = sequence.writable = 0

    def take_moves(self) -> list[Move]:
        """The moves noted since the last call, in order."""
        moves, self._moves = self._moves, []
        return moves

    def slots_wasted(self, sequences: Iterable[Sequence]) -> int:
        """Slots in held blocks that hold no token."""
        wasted, others = 0, []
        for sequence in sequences:
            if sequence.writable:
                wasted += sum(table.end * self.block_size - sequence.computed for table in sequence.tables)
            else:
                others.append(sequence)
        return wasted + sum(self.block_size - tokens for tokens in self.partly_filled(others).values())

    def partly_filled(self, sequences: Iterable[Sequence]) -> dict[int, int]:
        """The held blocks that are not full, and how many of their slots hold a token."""
        filled: dict[int, int] = {}
        for sequence in sequences:
            first = sequence.computed // self.block_size
            for table in sequence.tables:
                for entry, block in enumerate(table.behind(first), start=first):
                    tokens = max(sequence.computed - entry * self.block_size, 0)
                    filled[block] = max(filled.get(block, 0), tokens)
        return filled

    def proof(self, sequences: Many[Sequence]) -> Iterator[None]:
        """Proves, some blocks at a time, that each block, here and in host memory, is free or held as often as the
        tables of these sequences name it. Raises IntegrityError. All must stay as it is meanwhile."""
        yield from self.pool.proof(table.blocks for sequence in sequences for table in sequence.tables)
        yield from self.host_pool.proof(table.blocks for sequence in sequences for table in sequence.host_tables)

    def _publish(self, sequence: Sequence) -> None:
        """Tells the prefix cache which of the sequence's blocks are complete by now."""
        full = min(sequence.computed, sequence.known - sequence.unknown) // self.block_size
        if not self._prefix_caching or full <= sequence.published:
            return
        for entry in range(sequence.published, full):
            content = sequence.block_hash(entry, self.block_size)
            for group, table in enumerate(sequence.tables):
                if entry >= table.first:
                    self.pool.publish(table[entry], _key(content, group))
        sequence.published = full

    def _shed(self, sequence: Sequence) -> None:
        """Gives back the blocks behind the window of the next token."""
        for table, first in zip(sequence.tables, self._firsts(sequence.computed), strict=True):
            self.pool.release(table.before(first))
            table.blocks = table.behind(first)
            table.first, table.synced = first, max(table.synced, first)

    def _start(self, sequence: Sequence) -> bool:
        looks_up = self._uses_prefix(sequence)
        tables = self._cached(sequence) if looks_up else [new_table(0, []) for _ in self._windows]
        entries = tables[0].end if tables else 0
        cached = [block for table in tables for block in table.blocks]
        further = [end - entries for end in self._ends(sequence, entries * self.block_size)]
        if sum(further) + self.pool.num_unheld(cached) > self.pool.num_free:
            return False
        self.pool.hold(cached)
        for table, more in zip(tables, further, strict=True):
            table.blocks += self.pool.allocate(more)
        sequence.tables, sequence.tables_changed = tables, True
        sequence.published = entries
        sequence.computed = entries * self.block_size
        if looks_up and not sequence.started:
            self.prefix_queries += sequence.request.prompt_len
            self.prefix_hits += sequence.computed
            sequence.cached_tokens = sequence.computed
        return True

    def _swap_in(self, sequence: Sequence) -> bool:
        ends, hosts = self._ends(sequence, sequence.computed), sequence.host_tables
        needed = [end - host.first for end, host in zip(ends, hosts, strict=True)]
        if sum(needed) > self.pool.num_free:
            return False
        for host, count in zip(hosts, needed, strict=True):
            table = new_table(host.first, self.pool.allocate(count))
            sequence.tables.append(table)
            self._moves += [Move(MoveKind.SWAP_IN, *pair) for pair in zip(host.blocks, table.blocks, strict=False)]
            self.host_pool.release(host.blocks)
        sequence.host_tables, sequence.tables_changed = [], True
        return True

    def _firsts(self, tokens: int) -> list[int]:
        """Of each group the first entry that the token behind so many sees."""
        return [0 if window is None else max(tokens - window + 1, 0) // self.block_size for window in self._windows]

    def _ends(self, sequence: Sequence, computed: int) -> list[int]:
        """Of each group the entries that a sequence enters with, of which so many tokens are there already."""
        known = sequence.known
        return [
            self.num_blocks(known if window is None else min(known, computed + self._step_tokens))
            for window in self._windows
        ]

    def _uses_prefix(self, sequence: Sequence) -> bool:
        # Scores of prompt tokens, and their mean, come from computing them.
        computes_all = sequence.request.params.prompt_logprobs is not None or sequence.request.reads_all
        return self._prefix_caching and not sequence.is_swapped and not computes_all

    def _most_cached(self, sequence: Sequence) -> int:
        """Full blocks that may be taken from the cache: at least one token must be computed, to have a successor."""
        return (sequence.known - 1) // self.block_size

    def _cached(self, sequence: Sequence) -> list[BlockTable]:
        """The tables of the longest cached prefix: in groups with a window what the token behind it sees."""
        runs = [
            self.pool.find(self._keys(sequence, group, range(self._most_cached(sequence))))
            for group, window in enumerate(self._windows)
            if window is None
        ]
        entries = min(map(len, runs)) if runs else self._most_cached(sequence)
        if self._window is None:
            return [new_table(0, run[:entries]) for run in runs]
        entries = self._in_windows(sequence, entries)
        return [
            new_table(first, self.pool.find(self._keys(sequence, group, range(first, entries))))
            for group, first in enumerate(self._firsts(entries * self.block_size))
        ]

    def _in_windows(self, sequence: Sequence, entries: int) -> int:
        """The most entries, up to so many, at whose end a token finds all blocks of its window cached."""
        entry, first = entries, self._firsts(entries * self.block_size)[-1]
        while entry > first:
            entry -= 1
            content = sequence.block_hash(entry, self.block_size)
            if not all(self.pool.knows(_key(content, group)) for group in self._sliding):
                entries, first = entry, self._firsts(entry * self.block_size)[-1]
        return entries

    def _keys(self, sequence: Sequence, group: int, entries: range) -> Iterator[bytes]:
        """The contents of a group's full blocks."""
        return (_key(sequence.block_hash(entry, self.block_size), group) for entry in entries)


def blocks_of(sequence: Sequence) -> list[int]:
    """The blocks that a sequence holds, in order of its tokens."""
    if len(sequence.tables) == 1:
        return sequence.tables[0].blocks
    entries = ((entry, group) for group, table in enumerate(sequence.tables) for entry in range(table.first, table.end))
    return [sequence.tables[group][entry] for entry, group in sorted(entries)]


def num_filled(sequence: Sequence, block_size: int) -> int:
    """How many of the blocks that a sequence holds hold computed tokens."""
    entries = -(-sequence.computed // block_size)
    return sum(len(table.before(entries)) for table in sequence.tables)


def _key(content: bytes, group: int) -> bytes:
    """The content of a block, whose tokens have a hash, in a group of layers."""
    return content + bytes([group]) if group else content
