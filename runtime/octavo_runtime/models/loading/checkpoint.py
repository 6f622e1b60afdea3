"""A model from whatever files it comes in."""

from dataclasses import replace

import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.weights import build_decoder, dummy_reader, tensor_shapes

DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def load_model(config: EngineConfig, files: ModelFiles, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Reads the weights to `device`. Raises UnsupportedModel, and before it reads any where a tensor is missing, has
    another shape or an unknown type, or is left over."""
    gguf = GGUFFile(files.gguf) if files.gguf is not None else None
    spec = gguf.spec if gguf is not None else spec_from_folder(files.folder)
    if config.load_format == "dummy":
        return build_decoder(spec, dummy_reader(device, dtype, config.seed or 0), device, dtype)
    checkpoint: GGUFFile | SafetensorsFolder
    if gguf is not None:
        checkpoint = gguf
    else:
        checkpoint = SafetensorsFolder(files.folder)
        spec = replace(spec, tie_embeddings=checkpoint.ties(spec.tie_embeddings))
    checkpoint.check(tensor_shapes(spec))
    return build_decoder(spec, checkpoint.read, device, dtype)
