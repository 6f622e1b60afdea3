"""What a CPU holds of a GGUF file's weights beside their 16-bit form: those of few bits, packed for few rows (see
models/loading/weights.py and octavo_kernels.quantized_linear). Free of torch."""

from collections.abc import Iterable, Mapping

import gguf

_TILE = 32  # rows that are packed together; zeros fill the last

# Columns of a block, and bytes of one packed.
BLOCKS = {
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "IQ4_NL": (32, 18),
    "MXFP4": (32, 18), "Q2_K": (256, 164), "Q3_K": (256, 146), "Q4_K": (256, 148), "Q5_K": (256, 180),
    "Q6_K": (256, 210), "IQ4_XS": (256, 138),
}  # fmt: skip
_FUSED = (
    ("attn_q", "attn_k", "attn_v", "attn_qkv"),
    ("attn_output",),
    ("ffn_gate", "ffn_up"),
    ("ffn_down",),
)


def packed_bytes(stored: Iterable[gguf.ReaderTensor], num_layers: int) -> int:
    """Bytes of the packed weights: of the layers, if each projection of each of them can be packed, and of the head."""
    tensors = {tensor.name: tensor for tensor in stored}
    layers = [
        _fused(tensors, [f"blk.{layer}.{name}.weight" for name in names])
        for layer in range(num_layers)
        for names in _FUSED
    ]
    return (sum(layers) if all(layers) else 0) + _fused(
        tensors, ["output.weight" if "output.weight" in tensors else "token_embd.weight"]
    )


def _fused(tensors: Mapping[str, gguf.ReaderTensor], names: list[str]) -> int:
    """Bytes of projections that run as one; 0 where they cannot be packed. Those of one type lie together."""
    rows: dict[tuple[str, int], int] = {}
    for tensor in (tensors[name] for name in names if name in tensors):
        kind, columns = tensor.tensor_type.name, int(tensor.shape[0])
        if kind not in BLOCKS:
            return 0
        rows[kind, columns] = rows.get((kind, columns), 0) + int(tensor.n_elements) // columns
    if len(rows) > 1:
        # Of several types each tensor is packed by itself.
        return sum(_fused({name: tensors[name]}, [name]) for name in names if name in tensors)
    return sum(
        -(-count // _TILE) * _TILE * columns // BLOCKS[kind][0] * BLOCKS[kind][1]
        for (kind, columns), count in rows.items()
    )
