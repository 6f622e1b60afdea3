"""What projections that a checkpoint stores in fewer bits take in memory. Free of torch.

On a GPU they are computed with as they are stored; a CPU has them in 16 bits, and once more packed for few rows where
it has loops for them (docs/adr/0003), of experts in their place."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from octavo_runtime.models.latent_projections import EXPANSION, OUTPUT, latent_projections
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantization.scheme import Scheme

_HEAD = "lm_head"


class Projection(NamedTuple):
    """One stored matrix. is_cut: a rank has some of its columns."""

    module: str
    rows: int
    columns: int
    is_cut: bool = False


def gpu_saving(spec: ModelSpec, element_bytes: int) -> int:
    """Bytes by which the weights on a GPU are fewer than in elements of 16 bits."""
    scheme = spec.quantization
    if scheme is None or element_bytes != 2:
        return 0
    every = (projection for group in (*_projections(spec), *_shared(spec)) for projection in group)
    saved = sum(_saving(scheme, part) for part in (*every, *_head(spec)) if scheme.covers(part.module))
    return saved + expert_saving(spec)


def unpacked_bytes(spec: ModelSpec, element_bytes: int) -> int:
    """Bytes of the largest weight that a GPU unpacks into elements of 16 bits, to multiply many rows by it
    (octavo_kernels.grouped_linear): of those that run as one, and not of experts, which are unpacked on their way to
    the product. In larger elements weights are unpacked at load."""
    scheme = spec.quantization
    if scheme is None or element_bytes != 2 or not scheme.is_unpacked:
        return 0
    head = _head(spec)
    of_head = _size(head) if all(scheme.covers(part.module) for part in head) else 0
    return 2 * max((of_head, *_sizes_in_groups(spec, scheme)))


def rounded_parameters(spec: ModelSpec) -> int:
    """Weights of all layers whose products with many rows are of 8 bits by 8 bits; experts' are not."""
    scheme = spec.quantization
    return 0 if scheme is None or scheme.is_unpacked else sum(_sizes_in_groups(spec, scheme))


def _sizes_in_groups(spec: ModelSpec, scheme: Scheme) -> Iterator[int]:
    """Weights of the projections that run as one and stay in few bits, in the layers, but for experts."""
    for parts in (*_projections(spec), *_shared(spec)):
        if all(scheme.covers(part.module) for part in parts):
            yield _size(parts)


def _size(parts: tuple[Projection, ...]) -> int:
    return sum(part.rows * part.columns for part in parts)


def expert_saving(spec: ModelSpec) -> int:
    """The same of the experts that tokens choose from alone."""
    scheme, has = spec.quantization, spec.experts
    if scheme is None or has is None:
        return 0
    return len(has.here) * sum(_saving(scheme, part) for fused in _of_experts(spec) for part in fused)


def cpu_packed_bytes(spec: ModelSpec) -> int:
    """Bytes of what a CPU keeps packed beside the weights of 16 bits: of the layers, if each projection of each of them
    can be, and of the head; less what it saves of experts, which it keeps packed alone."""
    scheme = spec.quantization
    if scheme is None:
        return 0

    def fused(parts: tuple[Projection, ...]) -> int:
        if not all(scheme.covers(part.module) for part in parts):
            return 0
        return scheme.few_rows_bytes(sum(part.rows for part in parts), parts[0].columns)

    layers = [fused(group) for group in _projections(spec)]
    head = _head(spec)
    found = (sum(layers) if spec.consists_of_loops and all(layers) else 0) + (fused(head) if head else 0)
    for group in _of_experts(spec):
        packed = fused(group)
        if packed and spec.experts is not None:
            found += len(spec.experts.here) * (packed - 2 * sum(part.rows * part.columns for part in group))
    return found


def _saving(scheme: Scheme, part: Projection) -> int:
    high, wide = scheme.group
    if part.is_cut and wide and part.columns % wide:
        return 0  # a cut group is in 16 bits
    # Of rows that are no whole groups each has scales of its own.
    own = replace(scheme, group=(1, wide)) if high and part.rows % high else scheme
    return 2 * part.rows * part.columns - own.num_bytes(part.rows, part.columns)


def _projections(spec: ModelSpec) -> Iterator[tuple[Projection, ...]]:
    """Of all layers; those together that run as one."""
    names, hidden, inner = spec.tensors, spec.hidden_size, spec.intermediate_size
    q_rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    is_share = _is_share(spec)
    for index in range(spec.num_layers):
        at = spec.prefix_of(index)
        if spec.latent is None:
            yield _of(at, names.qkv, hidden, q_rows, kv_rows, kv_rows)
            yield (Projection(at + names.output, hidden, q_rows, is_share),)
        elif spec.values_at_load is None:
            # What latents are expanded by is in 16 bits.
            latent = latent_projections(spec).items()
            yield from (
                (Projection(at + name, *shape, is_share and name == OUTPUT),)
                for name, shape in latent
                if name != EXPANSION
            )
        if index not in spec.expert_layers:
            yield _of(at, names.gate_up, hidden, *[inner] * (spec.gate_up_size // inner))
            yield (Projection(at + names.down, hidden, inner, is_share),)


def _shared(spec: ModelSpec) -> Iterator[tuple[Projection, ...]]:
    """Of the experts that all tokens go through; those together that run as one."""
    if spec.experts is None or not spec.experts.shared_size or spec.values_at_load is not None:
        return
    names, size, hidden = spec.tensors.experts[0], spec.experts.shared_size, spec.hidden_size
    for index in spec.expert_layers:
        at = spec.prefix_of(index)
        yield _of(at, names.shared_gate_up, hidden, size, size)
        yield (Projection(at + names.shared_down, hidden, size, _is_share(spec)),)


def _of_experts(spec: ModelSpec) -> Iterator[tuple[Projection, ...]]:
    """Of one expert of each layer that has some, those that stay in few bits; together those that run as one. Where
    one expert's are stored so, all others' are."""
    scheme, has = spec.quantization, spec.experts
    if scheme is None or has is None or has.is_packed or not scheme.keeps_experts:
        return
    names, hidden, inner = spec.tensors.experts[0], spec.hidden_size, has.intermediate_size
    gate_up, [down] = (
        tuple(name.format(has.here[0]).removesuffix(".weight") for name in stored)
        for stored in (names.gate_up, (names.down,))
    )
    for index in spec.expert_layers:
        at = spec.prefix_of(index)
        of_down = Projection(at + down, hidden, inner, _is_share(spec) and has.held is None)
        for parts in (_of(at, gate_up, hidden, inner, inner), (of_down,)):
            if all(scheme.covers(part.module) for part in parts):
                yield parts


def _of(at: str, modules: tuple[str, ...], columns: int, *rows: int) -> tuple[Projection, ...]:
    if len(modules) == 1:
        return (Projection(at + modules[0], sum(rows), columns),)
    return tuple(Projection(at + module, count, columns) for module, count in zip(modules, rows, strict=True))


def _is_share(spec: ModelSpec) -> bool:
    return spec.head_size is not None


def _head(spec: ModelSpec) -> tuple[Projection, ...]:
    # A rank's share of it is in 16 bits.
    return (
        ()
        if spec.tie_embeddings or spec.head_size is not None or not spec.ends
        else (Projection(_HEAD, spec.vocab_size, spec.word_size),)
    )
