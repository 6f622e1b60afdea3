"""What projections that a checkpoint stores in fewer bits take in memory. Free of torch.

On a GPU they are computed with as they are stored; a CPU has them in 16 bits, and once more packed for few rows where
it has loops for them (docs/adr/0003). Experts are kept in 16 bits on both."""

from collections.abc import Iterator
from typing import NamedTuple

from octavo_runtime.models.spec import ModelSpec

_HEAD = "lm_head"


class Projection(NamedTuple):
    """One stored matrix."""

    module: str
    rows: int
    columns: int


def gpu_saving(spec: ModelSpec, element_bytes: int) -> int:
    """Bytes by which the weights on a GPU are fewer than in elements of 16 bits."""
    scheme = spec.quantization
    if scheme is None or element_bytes != 2:
        return 0
    every = (projection for group in _projections(spec) for projection in group)
    return sum(
        part.rows * part.columns * element_bytes - scheme.num_bytes(part.rows, part.columns)
        for part in (*every, *_head(spec))
        if scheme.covers(part.module)
    )


def cpu_packed_bytes(spec: ModelSpec) -> int:
    """Bytes of what a CPU keeps packed beside the weights of 16 bits: of the layers, if each projection of each of them
    can be, and of the head."""
    scheme = spec.quantization
    if scheme is None:
        return 0

    def fused(parts: tuple[Projection, ...]) -> int:
        if not all(scheme.covers(part.module) for part in parts):
            return 0
        return scheme.few_rows_bytes(sum(part.rows for part in parts), parts[0].columns)

    layers = [fused(group) for group in _projections(spec)]
    head = _head(spec)
    return (sum(layers) if spec.consists_of_loops and all(layers) else 0) + (fused(head) if head else 0)


def _projections(spec: ModelSpec) -> Iterator[tuple[Projection, ...]]:
    """Of all layers; those together that run as one."""
    names, hidden, inner = spec.tensors, spec.hidden_size, spec.intermediate_size
    q_rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim

    def of(at: str, modules: tuple[str, ...], columns: int, *rows: int) -> tuple[Projection, ...]:
        if len(modules) == 1:
            return (Projection(at + modules[0], sum(rows), columns),)
        return tuple(Projection(at + module, count, columns) for module, count in zip(modules, rows, strict=True))

    for index in range(spec.num_layers):
        at = spec.prefix_of(index)
        yield of(at, names.qkv, hidden, q_rows, kv_rows, kv_rows)
        yield of(at, (names.output,), q_rows, hidden)
        if index not in spec.expert_layers:
            yield of(at, names.gate_up, hidden, *[inner] * (spec.gate_up_size // inner))
            yield of(at, (names.down,), inner, hidden)


def _head(spec: ModelSpec) -> tuple[Projection, ...]:
    # A rank's share of it is in 16 bits.
    return (
        ()
        if spec.tie_embeddings or spec.head_size is not None or not spec.ends
        else (Projection(_HEAD, spec.vocab_size, spec.word_size),)
    )
