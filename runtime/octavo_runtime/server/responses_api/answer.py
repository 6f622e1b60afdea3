"""From a whole chat answer to a response."""

from octavo_runtime.server.responses import ChatCompletion
from octavo_runtime.server.responses_api.objects import (
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
    ResponseObject,
    end_response,
    new_id,
    output_call,
)


def answered(response: ResponseObject, chat: ChatCompletion) -> ResponseObject:
    """`response`, with the one answer of `chat` in it."""
    [choice] = chat.choices
    ended = end_response(response, choice.finish_reason, chat.usage)
    message, output = choice.message, list[OutputItem]()
    if message.reasoning:
        thoughts = [ReasoningText(text=message.reasoning)]
        output.append(OutputReasoning(id=new_id("rs"), content=thoughts, status="completed"))
    if message.content or not (message.reasoning or message.tool_calls):
        thought = chat.usage.completion_tokens_details.reasoning_tokens
        logprobs = [] if choice.logprobs is None else choice.logprobs.content[thought:]
        texts = [OutputText(text=message.content or "", logprobs=logprobs)]
        output.append(OutputMessage(id=new_id("msg"), content=texts, status="completed"))
    for call in message.tool_calls:
        output.append(output_call(response, call.id, call.function.name, call.function.arguments, "completed"))
    if ended.status == "incomplete":
        output[-1] = output[-1].model_copy(update={"status": "incomplete"})
    return ended.model_copy(update={"output": output})
