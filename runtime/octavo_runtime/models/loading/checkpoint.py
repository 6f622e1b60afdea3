"""A model from whatever files it comes in."""

from dataclasses import replace

import gguf
import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.end_tokens import tokenizer_end
from octavo_runtime.models.loading.files import TOKENIZER_PATTERNS, ModelFiles, locate
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.models.loading.gguf_spec import end_tokens
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.weights import build_decoder, dummy_reader, tensor_shapes

DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def load_model(config: EngineConfig, files: ModelFiles, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Reads the weights to `device`. Raises UnsupportedModel, and before it reads any where a tensor is missing, has
    another shape or an unknown type, or is left over."""
    packed = GGUFFile(files.gguf) if files.gguf is not None else None
    spec = packed.spec if packed is not None else spec_from_folder(files.folder)
    if config.tokenizer is not None:
        ends = dict.fromkeys([*spec.eos_token_ids, *_ends_of_tokenizer(config.tokenizer)])
        spec = replace(spec, eos_token_ids=tuple(ends))
    if config.load_format == "dummy":
        return build_decoder(spec, dummy_reader(device, dtype, config.seed or 0), device, dtype)
    checkpoint: GGUFFile | SafetensorsFolder
    if packed is not None:
        checkpoint = packed
    else:
        checkpoint = SafetensorsFolder(files.folder)
        spec = replace(spec, tie_embeddings=checkpoint.ties(spec.tie_embeddings))
    checkpoint.check(tensor_shapes(spec))
    return build_decoder(spec, checkpoint.read, device, dtype)


def _ends_of_tokenizer(tokenizer: str) -> tuple[int, ...]:
    """The tokens that end an answer as a tokenizer apart from the model has them, as in vLLM."""
    files = locate(tokenizer, only=TOKENIZER_PATTERNS)
    if files.gguf is not None:
        return end_tokens(gguf.GGUFReader(files.gguf))
    end = tokenizer_end(files.folder)
    return () if end is None else (end,)
