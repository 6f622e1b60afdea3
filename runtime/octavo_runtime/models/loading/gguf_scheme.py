"""In how many bits a GPU holds a GGUF file's projections. Free of torch."""

import re
from collections.abc import Mapping

import gguf

from octavo_runtime.quantization.gguf_sizes import BLOCKS
from octavo_runtime.quantization.scheme import DENSITY, Scheme

# Projections that run as one: in few bits where all of them are.
_FUSED = {
    "attn_k": "attn_q", "attn_v": "attn_q", "ffn_up": "ffn_gate", "ffn_up_exps": "ffn_gate_exps",
    "ffn_up_shexp": "ffn_gate_shexp",
}  # fmt: skip
# Matrices that no projection of the layers is kept as: routers, and what latents are expanded by.
_OTHERS = ("ffn_gate_inp", "ffn_gate_inp_shexp", "attn_kv_b", "attn_k_b", "attn_v_b")


def block_scheme(tensors: Mapping[str, gguf.ReaderTensor], *, has_packed_experts: bool) -> Scheme | None:
    """The average of all projections, whose types differ from layer to layer; None where none is in few bits.
    has_packed_experts: the experts are counted by themselves, as those in MXFP4 are."""
    groups: dict[tuple[str, str], list[gguf.ReaderTensor]] = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(blk\.\d+)\.(\w+)\.weight|output\.weight", name)
        stem = match and (match[2] or "output")
        if not match or not stem or len(tensor.shape) < 2 or stem in _OTHERS:
            continue
        if not (has_packed_experts and stem.endswith("_exps")):
            groups.setdefault((match[1] or "", _FUSED.get(stem, stem)), []).append(tensor)
    held, elements, widest = 0, 0, 1
    for (_, stem), parts in groups.items():
        kinds = {part.tensor_type.name for part in parts}
        are_packed = kinds <= BLOCKS.keys() and (len(kinds) == 1 or not stem.endswith("_exps"))
        for part in parts:
            columns, size = BLOCKS[part.tensor_type.name] if are_packed else (1, 2)
            held += int(part.n_elements) // columns * size
            elements += int(part.n_elements)
            widest = max(widest, columns)
    if widest == 1 or not elements:
        return None
    density = round(held * DENSITY / elements)
    return Scheme("gguf", density * 8 // DENSITY, "blocks", (1, widest), density=density)
