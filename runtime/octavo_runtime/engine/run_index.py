"""Where runs of tokens stood before, to guess what follows the last ones (prompt lookup decoding, Saxena 2023)."""

from octavo_runtime.config.speculation import Speculation

# The latest places where a run stood that are compared further.
_MOST_COMPARED = 16
# Runs that one step takes in of a sequence, so that a long prompt holds up nobody. The next step goes on.
_MOST_INDEXED = 1024


class RunIndex:
    """The runs of a sequence's tokens, of which each is looked at once."""

    def __init__(self, speculation: Speculation) -> None:
        self._shortest = speculation.prompt_lookup_min
        self._longest = speculation.prompt_lookup_max
        self._latest: dict[int, int] = {}  # by the hash of a run of the shortest length, where it ended last
        # By where such a run ended, where one of the same hash ended before it; 0: nowhere.
        self._earlier = [0] * self._shortest

    def guess(self, tokens: list[int], count: int) -> list[int]:
        """Up to `count` tokens that may follow: those behind the longest run that stood before, of several the latest.
        tokens: those of the calls before, and what has come since."""
        self._index(tokens)
        place, longest = 0, self._shortest - 1
        end = self._latest.get(hash(tuple(tokens[-self._shortest :])), 0)
        for _ in range(_MOST_COMPARED):
            if not end:
                break
            if (length := self._length(tokens, end)) > longest:
                place, longest = end, length
            end = self._earlier[end]
        if not place:
            return []
        guessed = tokens[place : place + count]
        while len(guessed) < count:  # the run reaches to the end, and so repeats what it guesses
            guessed.append(guessed[len(guessed) - len(tokens) + place])
        return guessed

    def _index(self, tokens: list[int]) -> None:
        """Takes in the next runs that end before the last token, whose successor is known."""
        first = len(self._earlier)
        for end in range(first, min(len(tokens), first + _MOST_INDEXED)):
            run = hash(tuple(tokens[end - self._shortest : end]))
            self._earlier.append(self._latest.get(run, 0))
            self._latest[run] = end

    def _length(self, tokens: list[int], end: int) -> int:
        """How many tokens before `end` are the last ones of all, as far as that counts."""
        length = 0
        while length < min(self._longest, end) and tokens[end - 1 - length] == tokens[-1 - length]:
            length += 1
        return length
