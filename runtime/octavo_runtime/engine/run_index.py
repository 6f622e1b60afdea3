"""Where runs of tokens stood before, to guess what follows the last ones (prompt lookup decoding, Saxena 2023)."""

from octavo_runtime.config.speculation import Speculation

# The latest places where a run stood that are compared further.
_MOST_COMPARED = 16


class RunIndex:
    """The runs of a sequence's tokens, of which each is looked at once."""

    def __init__(self, speculation: Speculation) -> None:
        self._shortest = speculation.prompt_lookup_min
        self._longest = speculation.prompt_lookup_max
        self._ends: dict[tuple[int, ...], list[int]] = {}  # of each run of the shortest length, where it ended
        self._indexed = 0  # runs that end here or before are in it

    def guess(self, tokens: list[int], count: int) -> list[int]:
        """Up to `count` tokens that may follow: those behind the longest run that stood before, of several the latest.
        tokens: those of the calls before, and what has come since."""
        self._index(tokens)
        places = self._ends.get(tuple(tokens[-self._shortest :]), [])[: -_MOST_COMPARED - 1 : -1]
        if not places:
            return []
        place = max(places, key=lambda end: self._length(tokens, end))
        guessed = tokens[place : place + count]
        while len(guessed) < count:  # the run reaches to the end, and so repeats what it guesses
            guessed.append(guessed[len(guessed) - len(tokens) + place])
        return guessed

    def _index(self, tokens: list[int]) -> None:
        """Takes in the runs that end before the last token, whose successor is known."""
        for end in range(max(self._indexed + 1, self._shortest), len(tokens)):
            self._ends.setdefault(tuple(tokens[end - self._shortest : end]), []).append(end)
        self._indexed = max(self._indexed, len(tokens) - 1)

    def _length(self, tokens: list[int], end: int) -> int:
        """How many tokens before `end` are the last ones of all, as far as that counts."""
        length = self._shortest
        while length < min(self._longest, end) and tokens[end - 1 - length] == tokens[-1 - length]:
            length += 1
        return length
