"""From a whole answer to a response."""

from octavo_runtime.server.generation.pieces import WholeAnswer
from octavo_runtime.server.generation.usage import Usage
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


def answered(response: ResponseObject, answer: WholeAnswer, usage: Usage) -> ResponseObject:
    """`response`, with `answer` in it."""
    output = list[OutputItem]()
    if answer.reasoning:
        thoughts = [ReasoningText(text=answer.reasoning)]
        output.append(OutputReasoning(id=new_id("rs"), content=thoughts, status="completed"))
    if answer.text or not (answer.reasoning or answer.calls):
        thought = usage.completion_tokens_details.reasoning_tokens
        texts = [OutputText(text=answer.text, logprobs=(answer.logprobs or [])[thought:])]
        output.append(OutputMessage(id=new_id("msg"), content=texts, status="completed"))
    for call in answer.calls:
        output.append(output_call(response, call.id, call.name, call.arguments, call_status(call.arguments)))
    if answer.finish_reason == "length" and not isinstance(output[-1], OutputCall | OutputCustomCall):
        output[-1] = output[-1].model_copy(update={"status": "incomplete"})
    return end_response(response, output, answer.finish_reason, usage)
