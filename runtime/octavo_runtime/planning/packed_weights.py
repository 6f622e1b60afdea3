"""What a CPU holds of a GGUF file's weights of few bits: packed for few rows, beside their 16-bit form or, of experts,
in its place (see models/loading/weights.py, experts.py and octavo_kernels.quantized_linear). Free of torch."""

from collections.abc import Iterable, Mapping

import gguf

from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantization.gguf_sizes import BLOCKS

_TILE = 32  # rows that are packed together; zeros fill the last

_FUSED = (
    ("attn_q", "attn_k", "attn_v", "attn_qkv"),
    ("attn_output",),
    ("ffn_gate", "ffn_up"),
    ("ffn_down",),
)
_EXPERTS = ("ffn_gate_exps", "ffn_up_exps"), ("ffn_down_exps",)


def packed_bytes(stored: Iterable[gguf.ReaderTensor], spec: ModelSpec) -> int:
    """By how many bytes packed weights make a model larger than it is in 16 bits: those of the layers, if each
    projection of each of them can be packed, and of the head; experts make it smaller."""
    tensors = {tensor.name: tensor for tensor in stored}
    layers = [
        _fused(tensors, [f"blk.{layer}.{name}.weight" for name in names])
        for layer in range(spec.num_layers if spec.consists_of_loops else 0)
        for names in _FUSED
    ]
    head = _fused(tensors, ["output.weight" if "output.weight" in tensors else "token_embd.weight"])
    return (sum(layers) if all(layers) else 0) + head + _experts(tensors, spec)


def _experts(tensors: Mapping[str, gguf.ReaderTensor], spec: ModelSpec) -> int:
    """The same of all experts; 0 where none is packed. Those in MXFP4 are no larger in the first place."""
    if spec.experts is None or spec.experts.is_packed:
        return 0
    found = 0
    for layer in spec.experts.layers:
        for names in _EXPERTS:
            own = [f"blk.{layer}.{name}.weight" for name in names]
            packed = _fused(tensors, own, spec.experts.routing.num_experts)
            found += packed - 2 * sum(int(tensors[name].n_elements) for name in own) if packed else 0
    return found


def _fused(tensors: Mapping[str, gguf.ReaderTensor], names: list[str], matrices: int = 1) -> int:
    """Bytes of projections that run as one; 0 where they cannot be packed. Those of one type lie together. matrices: in
    each tensor."""
    rows: dict[tuple[str, int], int] = {}
    for tensor in (tensors[name] for name in names if name in tensors):
        kind, columns = tensor.tensor_type.name, int(tensor.shape[0])
        if kind not in BLOCKS:
            return 0
        rows[kind, columns] = rows.get((kind, columns), 0) + int(tensor.n_elements) // columns // matrices
    if len(rows) > 1:
        # Of several types each tensor is packed by itself.
        return sum(_fused({name: tensors[name]}, [name], matrices) for name in names if name in tensors)
    return matrices * sum(
        -(-count // _TILE) * _TILE * columns // BLOCKS[kind][0] * BLOCKS[kind][1]
        for (kind, columns), count in rows.items()
    )
