"""The model that a GGUF file holds, from its metadata alone and without torch."""

from typing import Any

import gguf

from octavo_runtime.model.spec import ModelSpec, UnsupportedModel, spec_from_gguf

_LONG_FIELDS = (
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.scores",
)


def gguf_spec(reader: gguf.GGUFReader) -> ModelSpec:
    """ModelSpec of an open GGUF file; UnsupportedModel where the decoder cannot compute it."""
    fields: dict[str, Any] = {
        name: field.contents() for name, field in reader.fields.items() if name not in _LONG_FIELDS
    }
    shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
    if "token_embd.weight" not in shapes:
        raise UnsupportedModel("the GGUF file has no tensor token_embd.weight")
    # The metadata need not say how large the vocabulary is; the embedding always does. GGUF lists columns first.
    return spec_from_gguf(fields, vocab_size=int(shapes["token_embd.weight"][1]), tied="output.weight" not in shapes)
