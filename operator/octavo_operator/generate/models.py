"""docs/models.md: the families of models that are served, made from what the engine knows of them."""

from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.family import Family, Kind

_INTRODUCTION = """\
# Models

Made from the families by `make generate`; `octavo models` lists the same in a terminal, with `-o json` for programs. \
What is read of a checkpoint's files, and what is refused, stands in [model-files.md](model-files.md).

`octavo plan MODEL` says whether a model is served, without reading its weights; its exit code is 0 where the model \
fits the device, 1 where it does not, and 2 where it is not served (`--json` too).

A family is one file in `runtime/octavo_runtime/models/families/`; its scores and greedy tokens equal transformers' on \
a small random model of it (`tests/unit/runtime/models`). GGUF: `general.architecture` of its files; without one, \
safetensors alone. All but encoders load [weights in fewer bits](quantization.md) and are shared by \
[several devices](parallel.md), where these pages do not say otherwise.
"""
_SECTIONS: dict[Kind, tuple[str, str, str]] = {
    "dense": (
        "Decoders",
        "beside Llama",
        "A decoder as `...Model` or with sentence-transformers' `modules.json` (Qwen3-Embedding) embeds; as "
        "`...ForSequenceClassification` it scores ([embeddings.md](embeddings.md)).",
    ),
    "experts": (
        "Mixtures of experts",
        "router, by scores of its logits, and what is beside it",
        "A layer's experts are one tensor in memory, all on the one GPU; a step computes the chosen ones in a grouped "
        "product (`kernels/octavo_kernels/experts`), which no step waits for and a CUDA graph can hold. A checkpoint "
        "may name them one by one, as on the hub, or stacked, as transformers holds them. Routers compute in float32. "
        "`octavo plan` says how many parameters there are and how many a token meets. On a CPU each chosen expert's "
        "weights are read once, and no recording is made. Experts of [quantised checkpoints](quantization.md) and "
        "of GGUF files stay in few bits, and are unpacked in the product (on a CPU: [ADR 3](adr/0003-cpu-weights.md)).",
    ),
    "latent": (
        "Latent attention",
        "beside it",
        "Attention of DeepSeek-V2 (2024). The paged cache holds a token's latent and the turned part "
        "of its key, 576 numbers a layer in most of these, whatever the number of heads. Queries may be made of a "
        "latent too (`q_lora_rank`) or of the hidden state. A sequence with one new token reads latents as they are "
        "(`kernels/octavo_kernels/latent_decode`); for one with several, latents are expanded to keys and values, some "
        "heads at a time, so that a long context takes no more memory.",
    ),
    "encoder": (
        "Encoders",
        "beside BERT",
        "From safetensors, for [vectors and scores](embeddings.md); as `...Model`, `...ForMaskedLM` (its head is left "
        "unread) and `...ForSequenceClassification`. Refused by name, like all else: MPNet, DeBERTa, NomicBert and "
        "gte's `NewModel`.",
    ),
}


def models() -> str:
    """The whole page."""
    sections = (_section(kind, *words) for kind, words in _SECTIONS.items())
    return _INTRODUCTION + "".join(sections)


def _section(kind: Kind, title: str, beside: str, words: str) -> str:
    rows = sorted((family for family in FAMILIES.values() if family.kind == kind), key=lambda row: row.models.lower())
    header = f"| models | architecture | GGUF | {beside} |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{header}{''.join(map(_row, rows))}\n{words}\n"


def _row(family: Family) -> str:
    pictures = "" if family.with_pictures is None else f", `{family.with_pictures[0]}`"
    gguf = "" if family.gguf is None else f"`{family.gguf.architecture}`"
    return f"| {family.models} | `{family.architecture}`{pictures} | {gguf} | {family.beside} |\n"
