"""POST /v1/responses and /v1/responses/input_tokens."""

from functools import partial

from fastapi import APIRouter, Request, Response

from octavo_runtime.server.generation.chat_prompt import prompt_tokens
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.turn import ChatTurn, begin, pieces, whole_answers
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.http.streaming import EventStream, named_events, whole_answer
from octavo_runtime.server.responses.answer import answered
from octavo_runtime.server.responses.objects import InputTokens, ResponseObject, new_response
from octavo_runtime.server.responses.request import ResponsesRequest
from octavo_runtime.server.responses.stream import ResponseStream
from octavo_runtime.server.responses.to_chat import field_name, to_chat
from octavo_runtime.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    """The responses routes of one server."""
    routes = APIRouter(tags=["responses"])

    @routes.post("/v1/responses", response_model=ResponseObject, summary="Create a response")
    async def create_response(body: ResponsesRequest, request: Request) -> Response:
        """The model's answer in OpenAI's Responses shape. Nothing is stored: each request brings the whole input."""
        current_request().field_name = partial(field_name, body)
        turn = await begin(state, to_chat(body))
        response = new_response(body, turn.model.name)
        if body.stream:
            stream = ResponseStream(response)
            return EventStream(state, stream.follow(pieces(turn)), named_events(stream.failure))
        return await whole_answer(state, request, _whole(response, turn))

    @routes.post("/v1/responses/input_tokens", summary="Count a response's input tokens")
    async def count_input_tokens(body: ResponsesRequest) -> InputTokens:
        """How many tokens the input is, with all that the chat template puts around it. Runs nothing."""
        model = state.model_for(body.model, "generate")
        current_request().field_name = partial(field_name, body)
        return InputTokens(input_tokens=len(await in_thread(prompt_tokens, model, to_chat(body))))

    return routes


async def _whole(response: ResponseObject, turn: ChatTurn) -> ResponseObject:
    [answer], usage = await whole_answers(turn)
    return answered(response, answer, usage)
