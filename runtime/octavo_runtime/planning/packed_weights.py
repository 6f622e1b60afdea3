"""What a CPU holds of a GGUF file's weights beside their 16-bit form: those of 4 and 8 bits, packed for few rows (see
models/loading/weights.py and octavo_kernels.quantized_linear). Free of torch."""

from collections.abc import Iterable, Mapping

import gguf

_GROUP = 32
_GROUP_BYTES = {"Q4_0": 20, "Q4_1": 20, "Q8_0": 34}  # of one group: its weights, a float16 scale, at 4 bits a minimum
_FUSED = (("attn_q", "attn_k", "attn_v"), ("attn_output",), ("ffn_gate", "ffn_up"), ("ffn_down",))


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
    """Bytes of projections that are packed as one; 0 where they cannot be, as of different widths."""
    sizes = {_GROUP_BYTES.get(tensors[name].tensor_type.name, 0) if name in tensors else 0 for name in names}
    if len(sizes) > 1:
        return 0
    return sizes.pop() * sum(int(tensors[name].n_elements) // _GROUP for name in names if name in tensors)
