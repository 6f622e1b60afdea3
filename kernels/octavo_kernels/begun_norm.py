"""RMSNorm without a kernel of its own: the product that makes rows begins it, the one that reads them ends it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BegunNorm:
    """Rows whose RMSNorm is begun by the product that made them, and ended by the one that reads them: scaled / sqrt(
    mean square + eps).

    scaled: [rows, hidden], the rows times the norm's weight. squares: [tiles, at least rows] float32, contiguous, which
    add up to the sums of the squares of the rows themselves; how many tiles there are, and how many rows beside those
    that are read, is the affair of the product that wrote them."""

    scaled: Tensor
    squares: Tensor
    eps: float

    def __len__(self) -> int:
        """Of rows."""
        return len(self.scaled)


def rows_of(x: Tensor | BegunNorm) -> Tensor:
    """[rows, hidden]: what is multiplied."""
    return x if isinstance(x, Tensor) else x.scaled
