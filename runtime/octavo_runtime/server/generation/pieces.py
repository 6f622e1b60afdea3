"""What a streamed chat answer brings, one kind of thing at a time: for the APIs that stream items or blocks instead of
OpenAI's chunks."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from octavo_runtime.server.openai.chunks import ChatCompletionChunk
from octavo_runtime.server.openai.objects import ChatFinishReason, ChosenTokenLogprob, Usage


class Began(msgspec.Struct):
    """The first piece. usage: of the prompt."""

    usage: Usage


class Said(msgspec.Struct):
    """Text of the answer, with the log-probabilities of its tokens where they were asked for; of the tokens of
    reasoning there are none."""

    text: str
    logprobs: Sequence[ChosenTokenLogprob] = ()


class Thought(msgspec.Struct):
    """Text of the reasoning."""

    text: str


class Called(msgspec.Struct):
    """A call begins; its arguments follow."""

    id: str
    name: str


class Argued(msgspec.Struct):
    """More of the last call's arguments, as JSON text."""

    json: str


class Ended(msgspec.Struct):
    """The last piece. stop_reason: the stop string or token id that ended the answer."""

    finish_reason: ChatFinishReason
    stop_reason: str | int | None
    usage: Usage


Piece = Began | Said | Thought | Called | Argued | Ended


async def pieces(chunks: AsyncGenerator[ChatCompletionChunk, None]) -> AsyncGenerator[Piece, None]:
    """The pieces of the one answer in `chunks`, which must carry usage throughout. Closing the generator closes
    `chunks`."""
    usage: Usage | None = None
    ended: tuple[ChatFinishReason, str | int | None] | None = None
    scores: list[ChosenTokenLogprob] = []  # of tokens whose text is still to come
    async with aclosing(chunks):
        async for chunk in chunks:
            if usage is None and chunk.usage is not None:
                yield Began(chunk.usage)
            usage = chunk.usage or usage
            for choice in chunk.choices:
                delta = choice.delta
                scores += [] if choice.logprobs is None else choice.logprobs.content
                if delta.reasoning:
                    yield Thought(delta.reasoning)
                    scores = []
                if delta.content:
                    yield Said(delta.content, scores)
                    scores = []
                for call in delta.tool_calls or ():
                    if call.id is not None:
                        yield Called(call.id, call.function.name or "")
                    if call.function.arguments:
                        yield Argued(call.function.arguments)
                if choice.finish_reason is not None:
                    ended = choice.finish_reason, choice.stop_reason
    assert ended is not None
    assert usage is not None
    yield Ended(*ended, usage)
