"""The blocks of the KV cache: who holds which. Free of torch; a block is a number."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence


class OutOfBlocks(RuntimeError):
    """More blocks were asked for than are free."""


class IntegrityError(AssertionError):
    """The pool's books do not balance; the engine must not go on."""


class BlockPool:
    """A fixed set of blocks 0..num_blocks-1 with reference counts. A block is free exactly when nobody holds it."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._free = deque(range(num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_blocks - len(self._free)

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with one reference each; OutOfBlocks, and nothing taken, where fewer are free."""
        if count > len(self._free):
            raise OutOfBlocks(f"{count} blocks asked for, {len(self._free)} of {self.num_blocks} free")
        blocks = [self._free.popleft() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """One more holder for each block, which must be held already."""
        for block in blocks:
            if self._references[block] == 0:
                raise IntegrityError(f"block {block} is shared, but nobody holds it")
            self._references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One holder less for each block; a block without holders is free."""
        for block in blocks:
            if self._references[block] == 0:
                raise IntegrityError(f"block {block} is released, but nobody holds it")
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free.append(block)

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Proves that each block is either free or held exactly as often as the block tables name it."""
        held = Counter(block for table in tables for block in table)
        free = Counter(self._free)
        for block in range(self.num_blocks):
            if self._references[block] != held[block]:
                raise IntegrityError(f"block {block}: {self._references[block]} references, in {held[block]} tables")
            if free[block] != (held[block] == 0):
                raise IntegrityError(f"block {block}: {free[block]} times free, in {held[block]} tables")
