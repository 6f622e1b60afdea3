"""Decoders that were published to judge documents by their next word, and whose files do not say so. Free of torch."""

from dataclasses import dataclass

from octavo_runtime.config.engine import EngineConfig


@dataclass(frozen=True)
class Reranker:
    """The score of a document is the logit of `true_word` as the next token, less that of `false_word`, behind what
    `template`, a chat template, makes of the messages of a query, a document and perhaps a system, which instructs."""

    true_word: str
    false_word: str
    template: str


RERANKERS = {
    # As its model card has it (huggingface.co/Qwen/Qwen3-Reranker-0.6B).
    "qwen3": Reranker(
        "yes",
        "no",
        """\
{%- set instruct = messages | selectattr("role", "eq", "system") | map(attribute="content") | first \
| default("Given a web search query, retrieve relevant passages that answer the query", true) -%}
{%- set query = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}
{%- set document = messages | selectattr("role", "eq", "document") | map(attribute="content") | first -%}
{{- "<|im_start|>system\\nJudge whether the Document meets the requirements based on the Query and the Instruct \
provided. Note that the answer can only be \\"yes\\" or \\"no\\".<|im_end|>\\n<|im_start|>user\\n" -}}
{{- "<Instruct>: " + instruct + "\\n<Query>: " + query + "\\n<Document>: " + document -}}
{{- "<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n" -}}
""",
    ),
}


def template_of(config: EngineConfig) -> str | None:
    """What takes the place of the model's own chat template: what is given, or a reranker's; None: nothing does."""
    if config.chat_template is not None or config.reranker == "auto":
        return config.chat_template
    return RERANKERS[config.reranker].template
