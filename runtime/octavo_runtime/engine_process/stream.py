"""The outputs of one request on their way from the engine to who reads them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from octavo_runtime.protocol.messages import Output


@dataclass
class Stream:
    """None after the outputs: the engine is gone. `ended`: the request's answers that grow no more. `joins`: whether
    what several steps brought to one answer may be handed out as one output."""

    num_answers: int
    joins: bool
    ended: set[int] = field(default_factory=set)
    _waiting: list[Output | None] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def finished(self) -> bool:
        return len(self.ended) == self.num_answers

    def put(self, output: Output | None) -> None:
        self._waiting.append(output)
        self._arrived.set()

    async def take(self) -> Sequence[Output | None]:
        """All that waits, at least one. A reader that falls behind finds more tokens in each output, not more
        outputs, and so catches up."""
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._waiting = self._waiting, []
        return joined(taken) if self.joins and len(taken) > 1 else taken


def joined(outputs: Sequence[Output | None]) -> list[Output | None]:
    """The same tokens in one output for each answer; errors and the engine's end stay where they are."""
    found: list[Output | None] = []
    places: dict[int, int] = {}
    for output in outputs:
        place = None if output is None or output.error is not None else places.get(output.index)
        if output is None or place is None:
            if output is not None and output.error is None:
                places[output.index] = len(found)
            found.append(output)
            continue
        earlier = found[place]
        assert earlier is not None
        found[place] = msgspec.structs.replace(
            earlier,
            token_ids=earlier.token_ids + output.token_ids,
            logprobs=None if earlier.logprobs is None else earlier.logprobs + (output.logprobs or []),
            finish_reason=output.finish_reason,
            score=output.score,
        )
    return found
