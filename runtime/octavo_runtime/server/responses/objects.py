"""What clients of POST /v1/responses get."""

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from octavo_runtime.server.fields.nulls import is_null
from octavo_runtime.server.generation.token_logprobs import ChosenTokenLogprob
from octavo_runtime.server.generation.usage import Usage
from octavo_runtime.server.responses.request import (
    ReasoningConfig,
    ResponsesRequest,
    TextConfig,
    TextFormat,
    ToolChoice,
)
from octavo_runtime.server.responses.tools import CustomTool, Tool, custom_input, offered
from octavo_runtime.server.tools import arguments

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(BaseModel):
    """Text that the model said."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[Any] = []
    logprobs: list[ChosenTokenLogprob] = []


class OutputMessage(BaseModel):
    """A message of the model; one part."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: ItemStatus
    content: list[OutputText]


class ReasoningText(BaseModel):
    """How the model came to its answer."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str = ""


class OutputReasoning(BaseModel):
    """Reasoning, in the open: summary stays empty."""

    type: Literal["reasoning"] = "reasoning"
    id: str
    summary: list[Any] = []
    content: list[ReasoningText]
    encrypted_content: None = None
    status: ItemStatus


class OutputCall(BaseModel):
    """A function that the model wants called. arguments: JSON text."""

    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    namespace: str | None = Field(None, exclude_if=is_null)
    name: str
    arguments: str
    status: ItemStatus


class OutputCustomCall(BaseModel):
    """A custom tool that the model wants called."""

    type: Literal["custom_tool_call"] = "custom_tool_call"
    id: str
    call_id: str
    namespace: str | None = Field(None, exclude_if=is_null)
    name: str
    input: str
    status: ItemStatus


OutputItem = Annotated[OutputMessage | OutputReasoning | OutputCall | OutputCustomCall, Field(discriminator="type")]


class InputTokensDetails(BaseModel):
    """cached_tokens: input tokens that the prefix cache held."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """reasoning_tokens: those up to the end of the reasoning."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """Token counts of a request."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(BaseModel):
    """Why a response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(BaseModel):
    """Why a response is incomplete. stop: it stopped within a call, at a stop string mostly."""

    reason: Literal["max_output_tokens", "stop"]


class ResponseObject(BaseModel):
    """The answer, and the request's settings. Nothing of it is stored here."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    background: Literal[False] = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, Any]
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool
    previous_response_id: None = None
    reasoning: ReasoningConfig
    store: Literal[False] = False
    temperature: float
    text: TextConfig
    tool_choice: ToolChoice
    tools: list[Tool]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None


class InputTokens(BaseModel):
    """How many tokens a request's prompt has."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


def output_call(
    response: ResponseObject, call_id: str, name: str, arguments: str, status: ItemStatus
) -> OutputCall | OutputCustomCall:
    """The item of a call. name: the one in chat."""
    one = next((one for one in offered(response.tools) if one.chat_name == name), None)
    namespace, name = (None, name) if one is None else (one.namespace, one.tool.name)
    if one is not None and isinstance(one.tool, CustomTool):
        return OutputCustomCall(
            id=new_id("ctc"),
            call_id=call_id,
            namespace=namespace,
            name=name,
            input=custom_input(arguments),
            status=status,
        )
    return OutputCall(
        id=new_id("fc"), call_id=call_id, namespace=namespace, name=name, arguments=arguments, status=status
    )


def new_response(body: ResponsesRequest, model: str) -> ResponseObject:
    """A response in progress, without output."""
    return ResponseObject(
        id=new_id("resp"),
        created_at=int(time.time()),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        model=model,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        reasoning=body.reasoning or ReasoningConfig(),
        temperature=1.0 if body.temperature is None else body.temperature,
        text=_text_config(body.text),
        tool_choice="auto" if body.tool_choice is None else body.tool_choice,
        tools=[tool for tool in body.tools or () if tool is not None],
        top_logprobs=body.top_logprobs or 0,
        top_p=1.0 if body.top_p is None else body.top_p,
    )


def _text_config(given: TextConfig | None) -> TextConfig:
    given = given or TextConfig()
    return given.model_copy(update={"format": given.format or TextFormat(type="text")})


def end_response(
    response: ResponseObject, output: list[OutputItem], finish_reason: str, usage: Usage
) -> ResponseObject:
    """The response when its answer has ended: incomplete where the token limit, or the status of an item, says so."""
    cut: IncompleteDetails | None = None
    if finish_reason == "length":
        cut = IncompleteDetails(reason="max_output_tokens")
    elif any(item.status == "incomplete" for item in output):
        cut = IncompleteDetails(reason="stop")
    return response.model_copy(
        update={
            "status": "incomplete" if cut else "completed",
            "completed_at": None if cut else int(time.time()),
            "incomplete_details": cut,
            "output": output,
            "usage": _usage(usage),
        }
    )


def call_status(text: str) -> Literal["completed", "incomplete"]:
    """The status of a call with these arguments, when nothing more of it comes."""
    return "incomplete" if arguments.whole(text) is None else "completed"


def fail_response(response: ResponseObject, status: int, message: str) -> ResponseObject:
    """The response when it fails after its beginning. status: HTTP's, had it failed before."""
    code = "rate_limit_exceeded" if status == 429 else "invalid_prompt" if status == 400 else "server_error"
    return response.model_copy(update={"status": "failed", "error": ResponseError(code=code, message=message)})


def new_id(kind: Literal["resp", "msg", "rs", "fc", "ctc"]) -> str:
    """The id of a response or of an item."""
    return f"{kind}_{uuid.uuid4().hex}"


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.prompt_tokens_details.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.completion_tokens_details.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )
