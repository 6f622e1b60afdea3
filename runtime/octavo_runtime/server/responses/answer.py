"""From a whole chat answer to a response."""

from octavo_runtime.server.openai.objects import ChatCompletion
from octavo_runtime.server.responses.objects import (
    OutputCall,
    OutputCustomCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
    ResponseObject,
    call_status,
    end_response,
    new_id,
    output_call,
)


def answered(response: ResponseObject, chat: ChatCompletion) -> ResponseObject:
    """`response`, with the one answer of `chat` in it."""
    [choice] = chat.choices
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
        name, arguments = call.function.name, call.function.arguments
        output.append(output_call(response, call.id, name, arguments, call_status(arguments)))
    if choice.finish_reason == "length" and not isinstance(output[-1], OutputCall | OutputCustomCall):
        output[-1] = output[-1].model_copy(update={"status": "incomplete"})
    return end_response(response, output, choice.finish_reason, chat.usage)
