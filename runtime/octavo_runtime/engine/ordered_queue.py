"""Things that wait for their turn, each in a place of its own."""

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Any, Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

# Removed items that stay in the heap however few are left, so that a short queue is not built again all the time.
_SLACK = 64


class OrderedQueue(Generic[Item]):
    """Distinct items, the one of least key first; of equal keys the one that came first. To add or take one costs the
    logarithm of their number, and nothing but iterating looks at all of them.

    An item that is removed stays in the heap, unseen, until it comes up or such items are the majority."""

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int, Item]] = []
        self._entries: dict[Item, int] = {}  # which entry of the heap is the item's own
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: Item) -> bool:
        return item in self._entries

    def __iter__(self) -> Iterator[Item]:
        """All items, in order."""
        return (item for _, number, item in sorted(self._heap) if self._entries.get(item) == number)

    def add(self, key: Any, item: Item) -> None:
        """Puts in an item that is not there."""
        number = self._entries[item] = next(self._numbers)
        heapq.heappush(self._heap, (key, number, item))

    def first(self) -> tuple[Any, Item]:
        """The first item and its key. IndexError where nothing waits."""
        while self._entries.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        key, _, item = self._heap[0]
        return key, item

    def pop(self) -> Item:
        """Takes the first item. IndexError where nothing waits."""
        _, item = self.first()
        heapq.heappop(self._heap)
        del self._entries[item]
        return item

    def remove(self, item: Item) -> None:
        """Takes an item from any place. KeyError where it is not there."""
        del self._entries[item]
        if len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = [entry for entry in self._heap if self._entries.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)
