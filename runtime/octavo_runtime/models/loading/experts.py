"""From named tensors to the experts of a layer: one tensor for all experts, whichever form a checkpoint has them in."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from octavo_kernels.experts import Biases, PackedWeights, Weights
from octavo_runtime.layers.experts import Experts
from octavo_runtime.layers.linear import Linear, build_linear, packs, unpacks
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.router import Router
from octavo_runtime.models.loading.expert_parts import ExpertPart, expert_parts
from octavo_runtime.models.loading.grouped_experts import ReadPart, packed_groups, stacked_groups
from octavo_runtime.models.loading.placing import copy_to
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor, dense, fuse_rows, rows_of
from octavo_runtime.models.spec import ExpertLayers, ModelSpec
from octavo_runtime.models.tensor_names import ExpertNames, layer_prefix
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix, quantize_rows
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix


def in_stored_form(spec: ModelSpec, has: Callable[[str], bool]) -> ModelSpec:
    """The spec with the names of the experts' tensors that a checkpoint has; with the hub's where it has none. has:
    whether there is a tensor of a name."""
    if spec.experts is None:
        return spec
    at = layer_prefix(min(spec.experts.layers))
    for names in spec.tensors.experts:
        if has(at + names.router) and has(at + names.down.format(0)):
            return replace(spec, tensors=replace(spec.tensors, experts=(names,)))
    return spec


def build_experts(
    spec: ModelSpec,
    at: str,
    read: ReadTensor,
    device: torch.device,
    dtype: torch.dtype,
    *,
    is_shared: bool = False,
) -> Experts:
    """Reads the experts of the layer whose tensors' names begin with `at`. Each tensor is read and placed by itself:
    beside the stacked ones, no more than that is held. Those that are stored in groups stay so where the device
    computes with them. is_shared: by several ranks."""
    has, names = _of(spec)
    num_experts, hidden, inner = has.routing.num_experts, spec.hidden_size, has.intermediate_size
    first, held = has.here.start, len(has.here)
    narrow = spec.values_at_load

    def place(name: str, *shape: int) -> Tensor:
        return dense(read(at + name, shape)).to(device=device, dtype=torch.float32)

    def stack(parts: Sequence[ExpertPart], read_part: ReadPart, *shape: int) -> Tensor:
        stacked = torch.empty(held, *shape, device=device, dtype=dtype)
        for part in parts:
            copy(read_part(part), part, stacked)
        return stacked

    def copy(stored: StoredTensor, part: ExpertPart, stacked: Tensor) -> None:
        if part.place is not None:
            copy_to(dense(stored), stacked[part.place, part.rows])
        elif isinstance(stored, QuantizedMatrix | GroupedMatrix):
            matrices: Sequence[QuantizedMatrix | GroupedMatrix] = stored.split(held)
            for target, matrix in zip(stacked[:, part.rows], matrices, strict=True):
                copy_to(matrix.dequantize(dtype if device.type == "cpu" else torch.float32), target)
        elif not names.is_transposed:
            copy_to(dense(stored), stacked[:, part.rows])
        else:
            for target, matrix in zip(stacked, dense(stored), strict=True):
                target.copy_(in_order(matrix.T, len(target)))

    def in_order(rows: Tensor, count: int) -> Tensor:
        """[count, ...], the gates before the ups."""
        if not names.alternates or count != 2 * inner:
            return rows
        return torch.cat((rows[::2], rows[1::2]))

    def in_mxfp4(stored: tuple[str, ...], rows: int, columns: int) -> PackedWeights:
        packed = []
        for name, shape in _packed_shapes(stored, names, held, rows, columns).items():
            target = torch.empty(held, rows, *shape[2:], device=device, dtype=torch.uint8)
            for mine, theirs in zip(target, dense(read(at + name, shape)), strict=True):
                copy_to(in_order(theirs, rows), mine)
            packed.append(target.flatten(2))
        return PackedWeights(*packed)

    def in_8_bits(stored: StoredTensor, part: ExpertPart) -> GroupedMatrix:
        """The rows of all experts of a part, one under another."""
        assert narrow is not None
        whole = dense(stored)
        if part.place is not None:
            return quantize_rows(whole.to(device), narrow)
        matrices: Iterable[Tensor] = whole
        if names.is_transposed:
            matrices = (in_order(matrix.T, part.num_rows) for matrix in whole)
        each = [quantize_rows(matrix.to(device), narrow) for matrix in matrices]
        values, scales = (torch.cat(parts) for parts in zip(*((one.values, one.scales) for one in each), strict=True))
        return replace(each[0], values=values, scales=scales)

    def weights(stored: tuple[str, ...], columns: int, *counts: int) -> Weights:
        if has.is_packed:
            return in_mxfp4(stored, sum(counts), columns)
        parts = list(expert_parts(stored, names, has, columns, *counts))
        # What turns out not to be in groups is read once more.
        source = lru_cache(maxsize=len(counts))(read) if packs(device, dtype) else read

        def read_part(part: ExpertPart) -> StoredTensor:
            stored = source(at + part.name, part.shape)
            return stored if narrow is None else in_8_bits(stored, part)

        found: Weights | None = None
        if packs(device, dtype):
            found = packed_groups(parts, read_part, held) if not is_shared else None
        elif unpacks(device, dtype) and spec.quantization is not None and spec.quantization.keeps_experts:
            found = stacked_groups(parts, read_part, held, device)
        return stack(parts, read_part, sum(counts), columns) if found is None else found

    def biases() -> Biases:
        found = [
            torch.stack([in_order(each, rows) for each in dense(read(at + name, (held, rows)))])
            for name, rows in zip(names.biases, (2 * inner, hidden), strict=True)
        ]
        return Biases(*(each.to(device=device, dtype=dtype) for each in found))

    def linear(rows: dict[str, int], columns: int) -> Linear:
        parts = [read(f"{at}{name}.weight", (count, columns)) for name, count in rows.items()]
        stored = fuse_rows(parts, device, dtype)
        return build_linear(stored, None, device, dtype)

    correction = None
    if has.routing.has_correction:
        correction = place(names.correction, *_correction_shape(has, names)).flatten()
    shared = None
    if has.shared_size:
        gate_up, down = _shared(has, names, hidden)
        shared = MLP(linear(gate_up, hidden), linear(down, has.shared_size), spec.activation)
    router_bias = place(names.router_bias, num_experts) if has.has_biases else None
    return Experts(
        Router(place(names.router, num_experts, hidden), has.routing, correction, router_bias),
        weights(names.gate_up, hidden, inner, inner),
        weights((names.down,), inner, hidden),
        shared,
        linear({names.shared_gate: 1}, hidden) if has.gates_shared else None,
        biases() if has.has_biases else None,
        has.limit,
        first,
    )


def expert_shapes(spec: ModelSpec, at: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that build_experts reads."""
    has, names = _of(spec)
    num_experts, held = has.routing.num_experts, len(has.here)
    hidden, inner = spec.hidden_size, has.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {names.router: (num_experts, hidden)}
    if has.routing.has_correction:
        shapes[names.correction] = _correction_shape(has, names)
    if has.has_biases:
        shapes[names.router_bias] = (num_experts,)
        shapes |= zip(names.biases, ((held, 2 * inner), (held, hidden)), strict=True)
    if has.is_packed:
        shapes |= _packed_shapes(names.gate_up, names, held, 2 * inner, hidden)
        shapes |= _packed_shapes((names.down,), names, held, hidden, inner)
    if has.gates_shared:
        shapes[f"{names.shared_gate}.weight"] = 1, hidden
    return {at + name: shape for name, shape in (shapes | expert_weights(spec)).items()}


def expert_weights(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names, below the layer's prefix, and shapes of those that a quantised checkpoint has in fewer bits: of the MLPs
    that the router chooses, and of the shared one."""
    has, names = _of(spec)
    hidden, inner = spec.hidden_size, has.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {}
    if not has.is_packed:
        gate_up = expert_parts(names.gate_up, names, has, hidden, inner, inner)
        down = expert_parts((names.down,), names, has, inner, hidden)
        shapes |= {part.name: part.shape for part in (*gate_up, *down)}
    if has.shared_size:
        of_shared = _shared(has, names, hidden)
        shapes |= {f"{name}.weight": (rows, hidden) for name, rows in of_shared[0].items()}
        shapes |= {f"{name}.weight": (rows, has.shared_size) for name, rows in of_shared[1].items()}
    return shapes


def _of(spec: ModelSpec) -> tuple[ExpertLayers, ExpertNames]:
    assert spec.experts is not None
    return spec.experts, spec.tensors.experts[0]


def _correction_shape(has: ExpertLayers, names: ExpertNames) -> tuple[int, ...]:
    return (1, has.routing.num_experts) if names.correction_is_row else (has.routing.num_experts,)


def _shared(has: ExpertLayers, names: ExpertNames, hidden: int) -> tuple[dict[str, int], dict[str, int]]:
    """The rows of the shared experts' projections."""
    return rows_of(names.shared_gate_up, has.shared_size, has.shared_size), {names.shared_down: hidden}


def _packed_shapes(
    stored: tuple[str, ...], names: ExpertNames, num_experts: int, rows: int, columns: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the blocks and of the scales of one projection."""
    [name] = stored
    blocks, scales = names.packed
    return {
        name + blocks: (num_experts, rows, columns // 32, 16),
        name + scales: (num_experts, rows, columns // 32),
    }
