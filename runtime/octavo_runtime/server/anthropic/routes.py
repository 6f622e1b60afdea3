"""POST /v1/messages and /v1/messages/count_tokens."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from octavo_runtime.server.anthropic.events import Event, Ping
from octavo_runtime.server.anthropic.objects import MessageObject, TokenCount, message_of
from octavo_runtime.server.anthropic.request import CountTokensRequest, MessagesRequest
from octavo_runtime.server.anthropic.stream import failure, message_events
from octavo_runtime.server.anthropic.to_chat import chat_request, field_names
from octavo_runtime.server.generation.chat_prompt import chat_prompt
from octavo_runtime.server.generation.field_names import FieldNames, told_as
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.turn import ChatTurn, begin, pieces, whole_answers
from octavo_runtime.server.http.streaming import EventStream, named_events, whole_answer
from octavo_runtime.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    """The messages routes of one server."""
    routes = APIRouter(tags=["messages"])

    @routes.post("/v1/messages", response_model=MessageObject, summary="Create a message")
    async def create_message(body: MessagesRequest, request: Request) -> Response:
        """The model's next message, in Anthropic's shape."""
        names = field_names(body)
        with told_as(names):
            turn = await begin(state, chat_request(body))
        if body.stream:
            return EventStream(state, _events(turn, names), named_events(failure, Ping()))
        return await whole_answer(state, request, _whole(turn, names))

    @routes.post("/v1/messages/count_tokens", summary="Count a message's tokens")
    async def count_tokens(body: CountTokensRequest) -> TokenCount:
        """How many tokens a conversation is, with all that the chat template puts around it. Runs nothing."""
        model = state.model_for(body.model)
        with told_as(field_names(body)):
            prompt = await in_thread(chat_prompt, model, chat_request(body))
        return TokenCount(input_tokens=len(prompt.token_ids))

    return routes


async def _events(turn: ChatTurn, names: FieldNames) -> AsyncGenerator[Event, None]:
    with told_as(names):
        async with aclosing(message_events(turn.body.model, pieces(turn))) as events:
            async for event in events:
                yield event


async def _whole(turn: ChatTurn, names: FieldNames) -> MessageObject:
    with told_as(names):
        [answer], usage = await whole_answers(turn)
        return message_of(turn.body.model, answer, usage)
