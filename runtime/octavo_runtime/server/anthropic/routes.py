"""POST /v1/messages and /v1/messages/count_tokens."""

from functools import partial

from fastapi import APIRouter, Request, Response

from octavo_runtime.server.anthropic.events import Ping
from octavo_runtime.server.anthropic.objects import MessageObject, TokenCount, message_of
from octavo_runtime.server.anthropic.request import CountTokensRequest, MessagesRequest
from octavo_runtime.server.anthropic.stream import failure, message_events
from octavo_runtime.server.anthropic.to_chat import field_name, to_chat
from octavo_runtime.server.generation.chat_prompt import prompt_tokens
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.turn import ChatTurn, begin, pieces, whole_answers
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.http.streaming import EventStream, named_events, whole_answer
from octavo_runtime.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    """The messages routes of one server."""
    routes = APIRouter(tags=["messages"])

    @routes.post("/v1/messages", response_model=MessageObject, summary="Create a message")
    async def create_message(body: MessagesRequest, request: Request) -> Response:
        """The model's next message, in Anthropic's shape."""
        current_request().field_name = partial(field_name, body)
        turn = await begin(state, to_chat(body))
        if body.stream:
            return EventStream(state, message_events(body.model, pieces(turn)), named_events(failure, Ping()))
        return await whole_answer(state, request, _whole(turn))

    @routes.post("/v1/messages/count_tokens", summary="Count a message's tokens")
    async def count_tokens(body: CountTokensRequest) -> TokenCount:
        """How many tokens a conversation is, with all that the chat template puts around it. Runs nothing."""
        model = state.model_for(body.model, "generate")
        current_request().field_name = partial(field_name, body)
        return TokenCount(input_tokens=len(await in_thread(prompt_tokens, model, to_chat(body))))

    return routes


async def _whole(turn: ChatTurn) -> MessageObject:
    [answer], usage = await whole_answers(turn)
    return message_of(turn.model.name, answer, usage)
