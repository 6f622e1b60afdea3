"""The blocks of the KV cache: who holds which, and which content is worth finding again. Free of torch; a block is a
number."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

_PROVED_AT_ONCE = 2048  # blocks between two rests of a proof: about a fifth of a millisecond


class OutOfBlocks(RuntimeError):
    """More blocks were asked for than are free."""


class IntegrityError(AssertionError):
    """The pool's books do not balance; the engine must not go on."""


class BlockPool:
    """A fixed set of blocks 0..num_blocks-1 with reference counts.

    A block is free exactly when nobody holds it. A free block may still be *cached*: its content is known by a hash,
    and `hold` brings it back. `allocate` takes free blocks without a known content first, then the cached one that was
    released longest ago (least recently used), whose content is then forgotten."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._blank = deque(range(num_blocks))  # free, without a known content
        self._cached: OrderedDict[int, None] = OrderedDict()  # free, with one; released longest ago first
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can give, the cached ones among them."""
        return len(self._blank) + len(self._cached)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def num_cached(self) -> int:
        """Free blocks whose content can be found again."""
        return len(self._cached)

    def references(self, block: int) -> int:
        """How many holders a block has."""
        return self._references[block]

    def is_cached(self, block: int) -> bool:
        """Whether the block's content can be found by its hash."""
        return block in self._hash_of

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with one reference each; OutOfBlocks, and nothing taken, where fewer are free."""
        if count > self.num_free:
            raise OutOfBlocks(f"{count} blocks asked for, {self.num_free} of {self.num_blocks} free")
        blocks = [self._blank.popleft() if self._blank else self._evict() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def hold(self, blocks: Iterable[int]) -> None:
        """One more holder for each block, which must be held or cached already."""
        for block in blocks:
            if self._references[block] == 0:
                if block not in self._cached:
                    raise IntegrityError(f"block {block} is shared, but nobody holds it")
                del self._cached[block]
            self._references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One holder less for each block of a block table; a block without holders is free.

        The table's last block is forgotten first: without its predecessors no content can be found."""
        for block in reversed(blocks):
            if self._references[block] == 0:
                raise IntegrityError(f"block {block} is released, but nobody holds it")
            self._references[block] -= 1
            if self._references[block] == 0:
                if block in self._hash_of:
                    self._cached[block] = None
                else:
                    self._blank.append(block)

    def publish(self, block: int, content: bytes) -> None:
        """A held block's content is complete and has this hash. Where another block has it too, that one stays the
        one that is found."""
        if self._references[block] == 0:
            raise IntegrityError(f"block {block} is published, but nobody holds it")
        if content not in self._block_of:
            self._forget(block)
            self._block_of[content] = block
            self._hash_of[block] = content

    def knows(self, content: bytes) -> bool:
        """Whether a block has this content."""
        return content in self._block_of

    def find(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest run of known contents at the start of `hashes`."""
        blocks = []
        for content in hashes:
            block = self._block_of.get(content)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def num_unheld(self, blocks: Iterable[int]) -> int:
        """How many of the blocks nobody holds now: holding them takes them from the free ones."""
        return sum(self._references[block] == 0 for block in blocks)

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Proves that each block is either free or held exactly as often as the block tables name it, and that the
        index of contents names each block at most once. Raises IntegrityError."""
        for _ in self.proof(tables):
            pass

    def proof(self, tables: Iterable[Sequence[int]]) -> Iterator[None]:
        """What check_integrity proves, some blocks at a time. It holds only where the pool stays as it is meanwhile."""
        held = Counter(block for table in tables for block in table)
        free = bytearray(self.num_blocks)
        for count, block in enumerate(chain(self._blank, self._cached), start=1):
            if free[block]:
                raise IntegrityError(f"block {block}: free twice")
            free[block] = 1
            if (block in self._hash_of) != (block in self._cached):
                raise IntegrityError(f"block {block}: a free block lies in the wrong list")
            if count % _PROVED_AT_ONCE == 0:
                yield
        for block, references in enumerate(self._references):
            if references != held[block]:
                raise IntegrityError(f"block {block}: {references} references, in {held[block]} tables")
            if free[block] != (references == 0):
                raise IntegrityError(f"block {block}: {free[block]} times free, in {held[block]} tables")
            if block % _PROVED_AT_ONCE == 0:
                yield
        if len(self._block_of) != len(self._hash_of):
            raise IntegrityError("the index of contents and the blocks' own hashes differ")
        for count, (content, block) in enumerate(self._block_of.items(), start=1):
            if self._hash_of.get(block) != content:
                raise IntegrityError(f"block {block}: the index of contents and the block's own hash differ")
            if count % _PROVED_AT_ONCE == 0:
                yield

    def _evict(self) -> int:
        block, _ = self._cached.popitem(last=False)
        self._forget(block)
        return block

    def _forget(self, block: int) -> None:
        content = self._hash_of.pop(block, None)
        if content is not None:
            del self._block_of[content]
