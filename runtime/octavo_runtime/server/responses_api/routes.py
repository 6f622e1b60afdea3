"""POST /v1/responses."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from octavo_runtime.server.chat import ChatTurn, begin, chunks, complete
from octavo_runtime.server.field_names import told_as
from octavo_runtime.server.pieces import pieces
from octavo_runtime.server.responses_api.answer import answered
from octavo_runtime.server.responses_api.events import Event
from octavo_runtime.server.responses_api.objects import ResponseObject, new_response
from octavo_runtime.server.responses_api.request import ResponsesRequest
from octavo_runtime.server.responses_api.stream import ResponseStream
from octavo_runtime.server.responses_api.to_chat import FIELD_NAMES, chat_request
from octavo_runtime.server.state import ServerState
from octavo_runtime.server.streaming import EventStream, named_events, whole_answer


def router(state: ServerState) -> APIRouter:
    """The responses route of one server."""
    routes = APIRouter(tags=["responses"])

    @routes.post("/v1/responses", response_model=ResponseObject, summary="Create a response")
    async def create_response(body: ResponsesRequest, request: Request) -> Response:
        """The model's answer in OpenAI's Responses shape. Nothing is stored: each request brings the whole input."""
        with told_as(FIELD_NAMES):
            turn = await begin(state, chat_request(body))
        response = new_response(body)
        if body.stream:
            stream = ResponseStream(response)
            return EventStream(state, _events(stream, turn), named_events(stream.failure))
        return await whole_answer(state, request, _whole(response, turn))

    return routes


async def _events(stream: ResponseStream, turn: ChatTurn) -> AsyncGenerator[Event, None]:
    with told_as(FIELD_NAMES):
        async with aclosing(stream.follow(pieces(chunks(turn)))) as events:
            async for event in events:
                yield event


async def _whole(response: ResponseObject, turn: ChatTurn) -> ResponseObject:
    with told_as(FIELD_NAMES):
        return answered(response, await complete(turn))
