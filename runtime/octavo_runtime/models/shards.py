"""One rank's share of a model that several ranks compute together. Free of torch."""

import re
from dataclasses import replace

from octavo_runtime.models.spec import ExpertLayers, HeldExperts, ModelSpec, UnsupportedModel

_FIELD = "tensor_parallel_size"


def shard(spec: ModelSpec, size: int, rank: int = 0, *, whole_experts: bool = False) -> ModelSpec:
    """The spec of what one of `size` ranks computes: some of the heads, of the MLP's or each expert's inner width, and
    of the words' scores. Where there are more ranks than KV heads, several ranks have the same one. whole_experts: of
    the experts it computes some as a whole, of which no rank has more than the first. Raises UnsupportedModel where
    the model cannot be cut so."""
    if whole_experts and spec.experts is None:
        raise UnsupportedModel("enable_expert_parallel: must be false for a model without experts, got true")
    if size == 1:
        return spec
    _check(spec.num_heads, size, "attention heads")
    if spec.num_kv_heads % size and size % spec.num_kv_heads:
        raise UnsupportedModel(f"{_FIELD}: must divide the {spec.num_kv_heads} KV heads or be a multiple, got {size}")
    if spec.qkv_by_groups and spec.num_kv_heads % size:
        raise UnsupportedModel(f"{_FIELD}: must divide the {spec.num_kv_heads} KV heads, got {size}")
    if spec.qk_norm and spec.qk_norm_spans_heads:
        raise UnsupportedModel(f"{_FIELD}: must be 1 for a model that normalises all heads together, got {size}")
    if len(spec.expert_layers) < spec.num_layers:
        _check(spec.intermediate_size, size, "entries of the MLP's inner width")
    return replace(
        spec,
        num_heads=spec.num_heads // size,
        num_kv_heads=max(spec.num_kv_heads // size, 1),
        intermediate_size=spec.intermediate_size // size,
        experts=None if spec.experts is None else _experts(spec.experts, size, rank, whole=whole_experts),
        head_size=-(-spec.vocab_size // size),
    )


def fused_rows(spec: ModelSpec, name: str) -> tuple[int, ...] | None:
    """The rows of each projection that a checkpoint stores in one tensor of that name, one under another; None of any
    other tensor."""
    names = spec.tensors
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    found: dict[str, tuple[int, ...]] = {}
    if len(names.qkv) == 1 and not spec.qkv_by_groups:
        found[names.qkv[0]] = (q, kv, kv)
    if len(names.gate_up) == 1 and spec.is_gated:
        found[names.gate_up[0]] = (spec.intermediate_size,) * 2
    if spec.experts is not None:
        theirs = names.experts[0]
        if len(theirs.shared_gate_up) == 1:
            found[theirs.shared_gate_up[0]] = (spec.experts.shared_size,) * 2
        if not theirs.alternates:
            inner = (spec.experts.intermediate_size,) * 2
            found |= {stored: inner for stored in theirs.gate_up if len(theirs.gate_up) == 1}
            found[theirs.biases[0]] = inner
    for stored, rows in found.items():
        pattern = re.escape(stored).replace(r"\{\}", r"\d+")
        if re.fullmatch(rf"(model\.layers\.\d+\.)?{pattern}(\.weight|\.bias|_blocks|_scales)?", name):
            return rows
    return None


def stacks_experts(spec: ModelSpec, name: str) -> bool:
    """Whether a tensor holds something of all experts, one behind another."""
    if spec.experts is None:
        return False
    names = spec.tensors.experts[0]
    stacked = [stem for stem in (*names.gate_up, names.down) if "{}" not in stem]
    packed = [stem + kind for stem in stacked for kind in names.packed]
    return name.endswith((*stacked, *packed, *names.biases))


def is_added_once(spec: ModelSpec, name: str) -> bool:
    """Whether a tensor is the bias of a projection whose results are summed over the ranks."""
    names = spec.tensors
    biases = [f"{names.output}.bias", f"{names.down}.bias"]
    if spec.experts is not None:
        biases.append(names.experts[0].biases[1])
    return name.endswith(tuple(biases))


def _experts(has: ExpertLayers, size: int, rank: int, *, whole: bool) -> ExpertLayers:
    _check(has.shared_size, size, "entries of the shared experts' inner width")
    shared_size = has.shared_size // size
    if whole:
        return replace(has, shared_size=shared_size, held=_held(has.routing.num_experts, size, rank))
    step = 32 if has.is_packed else 1
    if has.intermediate_size % (size * step):
        of = f" in groups of {step}" if has.is_packed else ""
        raise UnsupportedModel(
            f"{_FIELD}: must divide an expert's inner width of {has.intermediate_size}{of}, got {size}"
        )
    return replace(has, intermediate_size=has.intermediate_size // size, shared_size=shared_size)


def _held(experts: int, size: int, rank: int) -> HeldExperts:
    """The experts of a rank: as many as each other one has, or one more where some are over."""
    if size > experts:
        raise UnsupportedModel(f"{_FIELD}: must be at most {experts}, the experts that ranks have whole, got {size}")
    each, over = divmod(experts, size)
    return HeldExperts(rank * each + min(rank, over), each + (rank < over))


def _check(count: int, size: int, what: str) -> None:
    if count % size:
        raise UnsupportedModel(f"{_FIELD}: must divide the {count} {what}, got {size}")
