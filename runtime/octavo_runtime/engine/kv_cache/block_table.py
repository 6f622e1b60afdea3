"""Where the keys and values of one sequence lie, in one group of layers."""

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class BlockTable:
    """The blocks of the entries from `first` on; those of earlier entries lie behind the layers' window, and are given
    back. `synced`: leading entries that the executor knows, or needs no more."""

    first: int
    blocks: list[int]
    synced: int

    @property
    def end(self) -> int:
        """The entry behind the last."""
        return self.first + len(self.blocks)

    def __getitem__(self, entry: int) -> int:
        return self.blocks[entry - self.first]

    def __setitem__(self, entry: int, block: int) -> None:
        self.blocks[entry - self.first] = block

    def before(self, entry: int) -> list[int]:
        """The blocks of the entries in front of that one."""
        return self.blocks[: max(entry - self.first, 0)]

    def behind(self, entry: int) -> list[int]:
        """Those of that entry and all later ones."""
        return self.blocks[max(entry - self.first, 0) :]


def new_table(first: int, blocks: list[int]) -> BlockTable:
    """A table that the executor does not know."""
    return BlockTable(first, blocks, first)
