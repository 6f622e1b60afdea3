"""POST /tokenize and /detokenize, in vLLM's shapes: what a text or a conversation is in tokens, and back."""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.rule import broken_rule
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.generation.bounds import check_text, check_tokens
from octavo_runtime.server.generation.chat_message import ChatMessage
from octavo_runtime.server.generation.chat_prompt import prompt_tokens
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest, chat_request
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.server.tools.tool import Tool

# Fields of a conversation that mean here what they mean in a chat request.
_OF_CHAT = ("tools", "add_generation_prompt", "continue_final_message", "chat_template_kwargs")


class TokenizeRequest(BaseModel):
    """A text or a conversation: exactly one of prompt and messages."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Default: the served one.")
    prompt: Text | None = None
    messages: Annotated[ListOf[ChatMessage], Field(min_length=1)] | None = None
    tools: ListOf[Tool] | None = None
    add_generation_prompt: bool | None = Field(None, description="As in a chat request. Default true.")
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = Field(
        None,
        description="Put the tokenizer's own tokens around a prompt. Default true; a chat template writes its own.",
    )
    return_token_strs: bool | None = Field(None, description="Default false.")

    @model_validator(mode="after")
    def _one_kind(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise broken_rule("prompt", "exactly one of prompt and messages must be there")
        for name in _OF_CHAT if self.messages is None else ():
            if getattr(self, name) is not None:
                raise broken_rule(name, "only allowed with messages")
        if self.messages is not None and self.add_special_tokens:
            raise broken_rule("add_special_tokens", "cannot be combined with messages, got True")
        return self

    def chat_request(self) -> ChatCompletionRequest:
        """The chat request that has the same prompt. Raises ApiError."""
        given = {name: getattr(self, name) for name in _OF_CHAT if getattr(self, name) is not None}
        return chat_request({"messages": self.messages, **given})


class Tokenized(BaseModel):
    """Token ids, and on request how the vocabulary spells them. max_model_len: most tokens of a request, prompt and
    answer together."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(BaseModel):
    """Token ids."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Default: the served one.")
    tokens: ListOf[int]


class Detokenized(BaseModel):
    """The text that the tokens stand for, special tokens included."""

    prompt: str


def router(state: ServerState) -> APIRouter:
    """The tokenizer routes of one server."""
    routes = APIRouter(tags=["tokenizer"])

    @routes.post("/tokenize", summary="Text to tokens", response_model=Tokenized)
    async def tokenize(body: TokenizeRequest) -> Response:
        """The token ids of a text, or of a conversation as the model's chat template writes it."""
        model = state.model_for(body.model)
        tokenized = await in_thread(_tokenized, model, body)
        return Response(tokenized, media_type="application/json")

    @routes.post("/detokenize", summary="Tokens to text")
    async def detokenize(body: DetokenizeRequest) -> Detokenized:
        """The text that token ids stand for."""
        model = state.model_for(body.model)
        if body.tokens:
            check_tokens(model, body.tokens, "tokens")
        text = await in_thread(model.tokenizer.decode, body.tokens, skip_special_tokens=False)
        return Detokenized(prompt=text)

    return routes


def _tokenized(model: ServedModel, body: TokenizeRequest) -> str:
    """A Tokenized as JSON. Of megabytes of text it takes seconds, so all of it is for a thread."""
    tokens = _token_ids(model, body)
    spelled = [model.tokenizer.piece(token) for token in tokens] if body.return_token_strs else None
    made = Tokenized(count=len(tokens), max_model_len=model.max_model_len, tokens=tokens, token_strs=spelled)
    return made.model_dump_json(exclude_none=True)


def _token_ids(model: ServedModel, body: TokenizeRequest) -> list[int]:
    if body.prompt is None:
        return prompt_tokens(model, body.chat_request())
    check_text(model, len(body.prompt), "prompt")
    return model.tokenizer.encode(body.prompt, add_special_tokens=body.add_special_tokens is not False)
