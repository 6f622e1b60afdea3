"""Writers of quantised checkpoints, a format each, by the layouts that their libraries publish: independent of the
engine's readers. Each takes a random weight and returns the stored tensors and the weight that they stand for."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from family_models import save
from safetensors.torch import load_file, save_file
from small_models import EOS
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig

Tensors = dict[str, torch.Tensor]
Writer = Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]
NF4 = (-1.0, -0.6961928, -0.5250731, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0, 0.0795803, 0.1609302,
       0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0)  # fmt: skip
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
SHAPE = LlamaConfig(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=32,
    max_position_embeddings=256,
    eos_token_id=EOS,
    tie_word_embeddings=False,
)

MIXTURE = Qwen3MoeConfig(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=128,
    moe_intermediate_size=192,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    num_experts=4,
    num_experts_per_tok=4,  # rounding changes none that is chosen
    max_position_embeddings=256,
    eos_token_id=EOS,
)


class Checkpoint(NamedTuple):
    """A folder, and transformers' model of the weights that it stands for."""

    folder: Path
    model: LlamaForCausalLM


def words(numbers: torch.Tensor, bits: int, places: tuple[int, ...] | None = None) -> torch.Tensor:
    """Numbers [rows, n] in words [rows, n * bits / 32]; the i-th of a word's numbers at place places[i]."""
    count = 32 // bits
    packed = np.zeros((numbers.shape[0], numbers.shape[1] // count), dtype=np.uint32)
    for index in range(count):
        place = index if places is None else places[index]
        packed |= numbers[:, index::count].numpy().astype(np.uint32) << np.uint32(bits * place)
    return torch.from_numpy(packed.view(np.int32))


def affine(weight: torch.Tensor, bits: int, size: int, *, symmetric: bool) -> tuple[torch.Tensor, ...]:
    """Numbers from 0 to 2**bits - 1 [out, in], scales and zeros [out, groups], and what they stand for."""
    top = 2**bits - 1
    grouped = weight.unflatten(1, (-1, size))
    if symmetric:
        scales = grouped.abs().amax(-1) / (top // 2)
        zeros = torch.full_like(scales, top // 2 + 1)
    else:
        low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
        scales = (high - low) / top
        zeros = (-low / scales).round().clamp(1, top)
    scales = scales.half().float()
    numbers = (grouped / scales[..., None] + zeros[..., None]).round().clamp(0, top)
    meant = ((numbers - zeros[..., None]) * scales[..., None]).flatten(1)
    return numbers.flatten(1).to(torch.uint8), scales, zeros.to(torch.uint8), meant


def awq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    numbers, scales, zeros, meant = affine(weight, 4, 32, symmetric=False)
    places = (0, 4, 1, 5, 2, 6, 3, 7)
    return {
        "qweight": words(numbers.T, 4, places),
        "qzeros": words(zeros.T, 4, places),
        "scales": scales.T.half().contiguous(),
    }, meant


def orders(columns: int, *, in_order: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs in the order of their groups, their own or a random one; and the place of each in it."""
    order = torch.arange(columns)
    if not in_order:
        order = torch.randperm(columns, generator=torch.Generator().manual_seed(columns))
    return order, order.argsort()


def gptq(bits: int = 4, *, symmetric: bool = True, in_order: bool = True, version: int = 1) -> Writer:
    def write(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        order, of_input = orders(weight.shape[1], in_order=in_order)
        numbers, scales, zeros, grouped = affine(weight[:, order], bits, 32, symmetric=symmetric)
        stored_zeros = (zeros.int() - int(version == 1)).to(torch.uint8)
        return {
            "qweight": words(numbers[:, of_input], bits).T.contiguous(),
            "qzeros": words(stored_zeros.T, bits),
            "scales": scales.T.half().contiguous(),
            "g_idx": (of_input // 32).int(),
            "bias": torch.zeros(len(weight)),
        }, grouped[:, of_input]

    return write


def int_words(bits: int, *, symmetric: bool, per_row: bool = False, in_order: bool = True) -> Writer:
    def write(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        size = weight.shape[1] if per_row else 32
        order, of_input = orders(weight.shape[1], in_order=in_order)
        numbers, scales, zeros, grouped = affine(weight[:, order], bits, size, symmetric=symmetric)
        stored = {
            "weight_packed": words(numbers[:, of_input], bits),
            "weight_scale": scales,
            "weight_shape": torch.tensor(weight.shape),
        }
        if not symmetric:
            stored["weight_zero_point"] = words(zeros.T, bits).T.contiguous()
        if not in_order:
            stored["weight_g_idx"] = (of_input // size).int()
        return stored, grouped[:, of_input]

    return write


def int8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    scales = weight.abs().amax(1, keepdim=True) / 127
    numbers = (weight / scales).round()
    return {"weight": numbers.to(torch.int8), "weight_scale": scales}, numbers * scales


def llm_int8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    tops = weight.abs().amax(1)
    numbers = (weight * (127 / tops[:, None])).round()
    stored = {"weight": numbers.to(torch.int8), "SCB": tops, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return stored, numbers * tops[:, None] / 127


def fp8(high: int, wide: int, name: str = "weight_scale", *, static: bool = False) -> Writer:
    """high, wide: of a block; 0: all."""

    def write(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        rows, columns = weight.shape
        blocks = -(-rows // (high or rows)), -(-columns // (wide or columns))
        scales = torch.rand(blocks, generator=torch.Generator().manual_seed(rows)) * 0.002 + 0.001
        spread = scales.repeat_interleave(high or rows, 0)[:rows].repeat_interleave(wide or columns, 1)[:, :columns]
        numbers = (weight / spread).to(torch.float8_e4m3fn)
        stored = {"weight": numbers, name: scales if high != 0 else scales.flatten()}
        return stored | ({"input_scale": torch.ones(1)} if static else {}), numbers.float() * spread

    return write


def nvfp4(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    overall = torch.tensor([448 * 6 / weight.abs().max()])
    grouped = weight.unflatten(1, (-1, 16))
    scales = (grouped.abs().amax(-1) / 6 * overall).to(torch.float8_e4m3fn)
    spread = scales.float()[..., None] / overall
    numbers = (grouped[..., None] / spread[..., None] - torch.tensor(E2M1)).abs().argmin(-1)
    meant = (torch.tensor(E2M1)[numbers] * spread).flatten(1)
    codes = numbers.flatten(1).to(torch.uint8)
    return {
        "weight_packed": codes[:, ::2] | codes[:, 1::2] << 4,
        "weight_scale": scales,
        "weight_global_scale": overall,
    }, meant


def nf4(*, nested: bool) -> Writer:
    def write(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        blocks = weight.reshape(-1, 64)
        tops = blocks.abs().amax(1)
        state: dict[str, Any] = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(weight.shape)}
        stored = {"weight.quant_map": torch.tensor(NF4)}
        if nested:
            offset, table = float(tops.mean()), torch.linspace(-1, 1, 256)
            outer = (tops - offset).abs().amax().reshape(1)
            indices = ((tops - offset)[:, None] / outer - table).abs().argmin(1)
            tops = table[indices] * outer + offset
            state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
            stored |= {"weight.nested_absmax": outer, "weight.nested_quant_map": table}
            stored["weight.absmax"] = indices.to(torch.uint8)
        else:
            stored["weight.absmax"] = tops
        numbers = (blocks[..., None] / tops[:, None, None] - torch.tensor(NF4)).abs().argmin(-1)
        codes = numbers.flatten().to(torch.uint8)
        text = json.dumps(state).encode()
        stored["weight"] = (codes[::2] << 4 | codes[1::2]).unsqueeze(1)
        stored["weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
        return stored, (torch.tensor(NF4)[numbers] * tops[:, None]).view_as(weight)

    return write


def squeezellm(*, sparse: bool) -> Writer:
    def write(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        table = torch.quantile(weight, torch.linspace(0, 1, 16), dim=1).T.contiguous()
        numbers = (weight[..., None] - table[:, None]).abs().argmin(-1)
        meant = table.gather(1, numbers)
        stored = {"qweight": words(numbers, 4).T.contiguous(), "lookup_table": table}
        if sparse:
            added = torch.where((weight.abs() > weight.abs().quantile(0.98)), weight - meant, 0.0)
            compressed = added.to_sparse_csr()
            whole = weight[3] - meant[3] - added[3]
            stored |= {
                "rows": compressed.crow_indices().int(),
                "cols": compressed.col_indices().int(),
                "vals": compressed.values(),
                "startrows": torch.zeros(128, dtype=torch.int32),
                "full_rows": whole.unsqueeze(1).contiguous(),
                "full_row_indices": torch.tensor([3], dtype=torch.int32),
            }
            meant = meant + added
            meant[3] += whole
        return stored, meant

    return write


def write_checkpoint(
    folder: Path, write: Writer, quantization: dict[str, Any], shape: LlamaConfig = SHAPE
) -> Checkpoint:
    """A random model whose layers' projections are stored by `write`."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(shape).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            stored, meant = write(tensors.pop(f"{name}.weight"))
            module.weight.data.copy_(meant)
            tensors |= {f"{name}.{part}": tensor for part, tensor in stored.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization}))
    return Checkpoint(folder, model)


class Mixture(NamedTuple):
    """A folder, and another with the weights that it stands for as they are."""

    folder: Path
    meant: Path


def write_mixture(folder: Path, write: Writer, quantization: dict[str, Any]) -> Mixture:
    """The same of a model with experts, each of them stored by itself as on the hub."""
    found = Mixture(folder / "stored", folder / "meant")
    model = save(MIXTURE, found.meant, spread=0.1)
    tensors, meant = load_file(found.meant / "model.safetensors"), {}
    for name in [name for name in tensors if re.search(r"layers.*(?<!norm)(?<!mlp\.gate)\.weight$", name)]:
        stored, meant[name] = write(tensors.pop(name))
        tensors |= {name.removesuffix("weight") + part: tensor for part, tensor in stored.items()}
    model.config.save_pretrained(found.folder)
    save_file(tensors, found.folder / "model.safetensors", metadata={"format": "pt"})
    plain = {name: meant.get(name, tensor) for name, tensor in load_file(found.meant / "model.safetensors").items()}
    save_file(plain, found.meant / "model.safetensors", metadata={"format": "pt"})
    path = found.folder / "config.json"
    architectures = [type(model).__name__]
    fields = json.loads(path.read_text()) | {"quantization_config": quantization, "architectures": architectures}
    path.write_text(json.dumps(fields))
    return found


def compressed(layout: str, **weights: Any) -> dict[str, Any]:
    """quantization_config of compressed-tensors."""
    group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True, **weights}}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": group},
        "ignore": ["re:.*lm_head"],
    }


_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}
_INT4 = {"num_bits": 4, "strategy": "group", "group_size": 32}
_NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
FORMATS: dict[str, tuple[Writer, dict[str, Any]]] = {
    "awq": (awq, _AWQ),
    "gptq": (gptq(), _GPTQ),
    "gptq, its own order, asymmetric": (
        gptq(symmetric=False, in_order=False),
        {**_GPTQ, "desc_act": True, "sym": False},
    ),
    "gptq v2": (gptq(version=2), {**_GPTQ, "checkpoint_format": "gptq_v2"}),
    "gptq, 8 bits": (gptq(8), {**_GPTQ, "bits": 8}),
    "gptq, 8 bits, asymmetric": (gptq(8, symmetric=False), {**_GPTQ, "bits": 8, "sym": False}),
    "int4 groups": (int_words(4, symmetric=True), compressed("pack-quantized", **_INT4)),
    "int4 groups, asymmetric": (
        int_words(4, symmetric=False),
        compressed("pack-quantized", **{**_INT4, "symmetric": False}),
    ),
    "int4 groups, their own order": (
        int_words(4, symmetric=True, in_order=False),
        compressed("pack-quantized", **_INT4, actorder="group"),
    ),
    "int8 words, per row": (
        int_words(8, symmetric=True, per_row=True),
        compressed("pack-quantized", num_bits=8, strategy="channel"),
    ),
    "int8": (int8, compressed("int-quantized", num_bits=8, strategy="channel")),
    "fp8 per row": (fp8(1, 0), compressed("float-quantized", num_bits=8, type="float", strategy="channel")),
    "fp8 per tensor": (
        fp8(0, 0, static=True),
        compressed("float-quantized", num_bits=8, type="float", strategy="tensor"),
    ),
    "fp8 blocks": (
        fp8(128, 128, "weight_scale_inv"),
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
    ),
    "nvfp4": (
        nvfp4,
        compressed("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16),
    ),
    "nf4": (nf4(nested=False), _NF4),
    "nf4, nested": (nf4(nested=True), {**_NF4, "bnb_4bit_use_double_quant": True}),
    "llm.int8": (llm_int8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "squeezellm": (squeezellm(sparse=False), {"quant_method": "squeezellm", "wbits": 4}),
    "squeezellm, sparse": (squeezellm(sparse=True), {"quant_method": "squeezellm", "wbits": 4}),
}
