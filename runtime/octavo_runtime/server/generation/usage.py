"""The token counts of a request."""

from pydantic import BaseModel


class PromptTokensDetails(BaseModel):
    """cached_tokens: prompt tokens that the prefix cache held."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """reasoning_tokens: generated tokens up to the end of the reasoning."""

    reasoning_tokens: int


class Usage(BaseModel):
    """Token counts of a request, all its answers together; with best_of, those that were not returned too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
