"""POST /v1/responses and /v1/responses/input_tokens."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from octavo_runtime.server.generation.chat_prompt import chat_prompt
from octavo_runtime.server.generation.field_names import FieldNames, told_as
from octavo_runtime.server.generation.turn import ChatTurn, begin, pieces, whole_answers
from octavo_runtime.server.http.streaming import EventStream, named_events, whole_answer
from octavo_runtime.server.responses.answer import answered
from octavo_runtime.server.responses.events import Event
from octavo_runtime.server.responses.objects import InputTokens, ResponseObject, new_response
from octavo_runtime.server.responses.request import ResponsesRequest
from octavo_runtime.server.responses.stream import ResponseStream
from octavo_runtime.server.responses.to_chat import chat_request, field_names
from octavo_runtime.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    """The responses routes of one server."""
    routes = APIRouter(tags=["responses"])

    @routes.post("/v1/responses", response_model=ResponseObject, summary="Create a response")
    async def create_response(body: ResponsesRequest, request: Request) -> Response:
        """The model's answer in OpenAI's Responses shape. Nothing is stored: each request brings the whole input."""
        names = field_names(body)
        with told_as(names):
            turn = await begin(state, chat_request(body))
        response = new_response(body)
        if body.stream:
            stream = ResponseStream(response)
            return EventStream(state, _events(stream, turn, names), named_events(stream.failure))
        return await whole_answer(state, request, _whole(response, turn, names))

    @routes.post("/v1/responses/input_tokens", summary="Count a response's input tokens")
    async def count_input_tokens(body: ResponsesRequest) -> InputTokens:
        """How many tokens the input is, with all that the chat template puts around it. Runs nothing."""
        model = state.model_for(body.model)
        with told_as(field_names(body)):
            prompt = await asyncio.to_thread(chat_prompt, model, chat_request(body))
        return InputTokens(input_tokens=len(prompt.token_ids))

    return routes


async def _events(stream: ResponseStream, turn: ChatTurn, names: FieldNames) -> AsyncGenerator[Event, None]:
    with told_as(names):
        async with aclosing(stream.follow(pieces(turn))) as events:
            async for event in events:
                yield event


async def _whole(response: ResponseObject, turn: ChatTurn, names: FieldNames) -> ResponseObject:
    with told_as(names):
        [answer], usage = await whole_answers(turn)
        return answered(response, answer, usage)
