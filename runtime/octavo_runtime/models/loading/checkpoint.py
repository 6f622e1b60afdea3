"""A model from whatever files it comes in."""

from collections.abc import Callable
from dataclasses import replace

import gguf
import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Group, Link
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.encoder import Encoder
from octavo_runtime.models.kv_scales import CACHE_TYPES, stored_scales, with_scaled_cache
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.dummy_weights import dummy_reader
from octavo_runtime.models.loading.encoder_weights import build_encoder, encoder_shapes
from octavo_runtime.models.loading.end_tokens import tokenizer_end
from octavo_runtime.models.loading.experts import in_stored_form
from octavo_runtime.models.loading.files import ModelFiles, locate
from octavo_runtime.models.loading.finite import check_placed, finite
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.models.loading.gguf_spec import end_tokens
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.selection import TOKENIZER_PATTERNS
from octavo_runtime.models.loading.sharding import places_of_heads, sharded
from octavo_runtime.models.loading.stored_tensors import ReadTensor
from octavo_runtime.models.loading.tensor_shapes import EMBEDDING, HEAD, tensor_shapes
from octavo_runtime.models.loading.text_heads import SCORE, read_text_head
from octavo_runtime.models.loading.text_modules import text_modules
from octavo_runtime.models.loading.text_task import text_task
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.served import as_served
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.stages import stage_of
from octavo_runtime.models.text_head import TextHead

DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


Layers = Callable[[ModelSpec], range]
"""Which layers of a model a stage has."""


def load_model(
    config: EngineConfig,
    files: ModelFiles,
    device: torch.device,
    dtype: torch.dtype,
    group: Group | None = None,
    link: Link | None = None,
    layers: Layers | None = None,
) -> Decoder:
    """Reads the weights to `device`, of a group of ranks this one's share, and of a pipeline, whose stages `link` leads
    to, these `layers` alone. Raises UnsupportedModel, and before it reads
    any where a tensor is missing, has another shape or an unknown type, or is left over."""

    def built(spec: ModelSpec, read: ReadTensor) -> Decoder:
        rank, size = (0, 1) if group is None else (group.rank, group.size)
        share = shard(spec, size, rank, whole_experts=config.enable_expert_parallel)
        if group is not None:
            read = sharded(read, spec, share, rank, size)
        if layers is not None:
            share = stage_of(share, layers(spec))
        return build_decoder(share, read, device, dtype, group, link)

    packed = GGUFFile(files.gguf) if files.gguf is not None else None
    if packed is not None and config.reranker != "auto":
        raise UnsupportedModel(f"reranker: must be auto for a GGUF file, got {config.reranker}")
    spec = packed.spec if packed is not None else spec_from_folder(files.folder)
    if config.tokenizer is not None:
        ends = dict.fromkeys([*spec.eos_token_ids, *_ends_of_tokenizer(config.tokenizer)])
        spec = replace(spec, eos_token_ids=tuple(ends))
    stored = spec.quantization
    spec = as_served(spec, config)
    cache_type = CACHE_TYPES.get(config.kv_cache_dtype)
    if config.load_format == "dummy":
        decoder = built(spec, dummy_reader(spec, device, dtype, config.seed or 0))
        return decoder if cache_type is None else with_scaled_cache(decoder, None, cache_type)
    if packed is not None:
        if config.quantization in ("fp8", "int8"):
            raise UnsupportedModel(f"quantization: must be auto for a GGUF file, got {config.quantization}")
        packed.check(tensor_shapes(spec))
        decoder = built(spec, packed.read)
        return decoder if cache_type is None else with_scaled_cache(decoder, None, cache_type)
    modules = text_modules(config, files.folder, spec)
    task = text_task(files.folder, spec, modules)
    checkpoint = SafetensorsFolder(files.folder, spec.unread, spec.tensors.beginnings, stored)
    spec = replace(spec, tie_embeddings=checkpoint.ties(spec.tie_embeddings))
    spec = in_stored_form(spec, checkpoint.has)
    own = {SCORE: (spec.labels, spec.word_size)} if spec.labels else {}
    scales = None if cache_type is None else stored_scales(spec, checkpoint.has, checkpoint.tensor)
    shapes = tensor_shapes(spec) | own
    checkpoint.check(shapes)
    words = EMBEDDING if spec.tie_embeddings else HEAD
    text_head = read_text_head(modules, spec, finite(checkpoint.read), words, device)
    on_gpu = device.type == "cuda"
    read = checkpoint.read if on_gpu else finite(checkpoint.read)
    decoder = replace(built(spec, read), text_head=text_head, task=task)
    if on_gpu:
        check_placed(decoder, checkpoint.read, shapes)
    if cache_type is None:
        return decoder
    if scales is not None:
        scales = scales.narrow(0, decoder.spec.layers_before, decoder.spec.num_layers)
    if scales is not None and group is not None:
        scales = scales[..., places_of_heads(spec, decoder.spec, group.rank, group.size)]
    return with_scaled_cache(decoder, scales, cache_type)


def load_encoder(config: EngineConfig, files: ModelFiles, device: torch.device, dtype: torch.dtype) -> Encoder:
    """The same of a folder whose model is an encoder."""
    spec = as_served(spec_from_folder(files.folder), config)
    assert spec.encoder is not None
    modules = text_modules(config, files.folder, spec)
    task = text_task(files.folder, spec, modules)
    if config.load_format == "dummy":
        return build_encoder(spec, dummy_reader(spec, device, dtype, config.seed or 0), TextHead(), task, device, dtype)
    checkpoint = SafetensorsFolder(files.folder, spec.unread, ((spec.encoder.prefix, ""),))
    checkpoint.check(encoder_shapes(spec))
    read = finite(checkpoint.read)
    text_head = read_text_head(modules, spec, read, HEAD, device)
    return build_encoder(spec, read, text_head, task, device, dtype)


def _ends_of_tokenizer(tokenizer: str) -> tuple[int, ...]:
    """The tokens that end an answer as a tokenizer apart from the model has them, as in vLLM."""
    files = locate(tokenizer, only=TOKENIZER_PATTERNS)
    if files.gguf is not None:
        return end_tokens(gguf.GGUFReader(files.gguf))
    end = tokenizer_end(files.folder)
    return () if end is None else (end,)
