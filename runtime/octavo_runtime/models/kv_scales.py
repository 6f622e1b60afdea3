"""The scales of a KV cache of 8 bits: of each layer and KV head, what a stored 1 stands for, of keys and of values."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from octavo_kernels.eight_bits import LARGEST
from octavo_runtime.layers.attention import Attention
from octavo_runtime.layers.batch import Batch, PrefillInputs
from octavo_runtime.models.decoder import Decoder, Stack
from octavo_runtime.models.layer_groups import cache_places, layer_groups, layers_of_a_block
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import layer_prefix

CACHE_TYPES = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
# Of keys and of values: compressed-tensors', ModelOpt's, Quark's and older llm-compressor's, and AutoFP8's one of both.
_NAMES = (
    ("self_attn.k_scale", "self_attn.v_scale"),
    ("self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale"),
    ("self_attn.k_proj.output_scale", "self_attn.v_proj.output_scale"),
    ("self_attn.kv_scale", "self_attn.kv_scale"),
)
_LARGEST = 1e30  # scale: times the largest stored number it is a float32, too
_TOKENS, _BLOCK = 256, 16  # that the greatest numbers are looked for in
_MARGIN = 1.5  # of what other tokens may bring, over those


def with_scaled_cache(decoder: Decoder, stored: torch.Tensor | None, cache_type: torch.dtype) -> Decoder:
    """The decoder over a KV cache of 8 bits. stored: [layers, 2, kv_heads] float32, a checkpoint's own scales, for FP8;
    without them FP8 has the scale 1, and int8 one of what the model makes of random tokens."""
    spec, device = decoder.spec, decoder.embedding.weight.device
    if stored is not None:
        scales = stored * (LARGEST[torch.float8_e4m3fn] / LARGEST[cache_type])
    elif cache_type == torch.float8_e4m3fn:
        scales = torch.ones(spec.num_layers, 2, spec.num_kv_heads)
    else:
        scales = measured_scales(decoder) * (_MARGIN / LARGEST[cache_type])
    of_layers = scales.to(device=device, dtype=torch.float32).contiguous().unbind()

    def scaled(stack: Stack) -> Stack:
        layers = []
        for layer, scale in zip(stack.layers, of_layers, strict=True):
            assert isinstance(layer.attention, Attention), "as_served lets no other by"
            layers.append(replace(layer, attention=replace(layer.attention, kv_scales=scale)))
        return Stack(layers, stack.norm)

    few_rows = None if decoder.few_rows is None else scaled(decoder.few_rows)
    return replace(decoder, stack=scaled(decoder.stack), few_rows=few_rows)


def stored_scales(
    spec: ModelSpec, has: Callable[[str], bool], read: Callable[[str], torch.Tensor]
) -> torch.Tensor | None:
    """[layers, 2, kv_heads] float32, as a checkpoint has them, of whole layers or of each head, for FP8 if they are for
    int8; None where it has none. has, read: a tensor by its name. Raises UnsupportedModel."""
    layers = [layer_prefix(index) for index in range(spec.num_layers)]
    forms = ([at + name for at in layers for name in both] for both in _NAMES)
    names = max(forms, key=lambda form: sum(map(has, form)))
    missing = [name for name in names if not has(name)]
    if len(missing) == len(names):
        return None
    if missing:
        raise UnsupportedModel(f"the safetensors files have no tensor {missing[0]}, where they have others like it")
    said = "fp8" if spec.quantization is None else spec.quantization.cache_type
    meant = CACHE_TYPES.get(said)
    if meant is None:
        raise UnsupportedModel(
            "quantization_config.kv_cache_scheme must be of 8 bits, float or int, symmetric, where kv_cache_dtype is "
            f"fp8 or int8, got {said}"
        )
    found = []
    for name in names:
        scale = read(name).float().flatten()
        if len(scale) not in (1, spec.num_kv_heads):
            raise UnsupportedModel(f"{name}: must be 1 or {spec.num_kv_heads} numbers, got {len(scale)}")
        if len(wrong := scale[~((scale > 0) & (scale <= _LARGEST))]):
            raise UnsupportedModel(f"{name}: must be above 0 and at most {_LARGEST:g}, got {wrong[0]:g}")
        found.append(scale.expand(spec.num_kv_heads))
    scales = torch.stack(found).view(spec.num_layers, 2, spec.num_kv_heads)
    return scales * (LARGEST[meant] / LARGEST[torch.float8_e4m3fn])


@torch.inference_mode()
def measured_scales(decoder: Decoder) -> torch.Tensor:
    """[layers, 2, kv_heads] float32: the greatest key and value that random tokens bring."""
    spec, weight = decoder.spec, decoder.embedding.weight
    count = min(_TOKENS, spec.max_position)
    blocks = -(-count // _BLOCK)
    groups = layer_groups(spec)
    shape = layers_of_a_block(spec), 2, len(groups) * blocks, _BLOCK, spec.num_kv_heads, spec.head_dim
    cache = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(spec.vocab_size, (count,), generator=generator).to(weight.device)
    decoder.reach(count)
    positions = torch.arange(count, device=weight.device)

    def words(*numbers: int) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int32, device=weight.device)

    # A group's layers have the blocks behind those of the group before.
    tables = words(*range(len(groups) * blocks)).view(len(groups), 1, blocks).unbind()
    slots = positions + torch.arange(len(groups), device=weight.device).unsqueeze(1) * (blocks * _BLOCK)
    prompt = PrefillInputs(tables, words(count), words(0, count), count, np.array([[count, count]]))
    batch = Batch(tokens, positions, slots, 0, None, prompt, np.array([0]), np.array([count - 1]))
    decoder.forward(batch, cache)
    largest = cache.unflatten(2, (len(groups), blocks)).float().abs().amax((3, 4, 6))
    return torch.stack([largest[place.layer, :, place.group] for place in cache_places(spec)]).clamp_(min=1e-6)
