"""A model's shape and weights, from whatever files it comes in."""

import torch

from octavo_runtime.config import EngineConfig
from octavo_runtime.model.files import ModelFiles
from octavo_runtime.model.gguf_file import GGUFFile
from octavo_runtime.model.safetensors_folder import SafetensorsFolder
from octavo_runtime.model.spec import ModelSpec, spec_from_folder
from octavo_runtime.model.weights import Weights, dummy_reader, load_weights

DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def load_model(
    config: EngineConfig, files: ModelFiles, device: torch.device, dtype: torch.dtype
) -> tuple[ModelSpec, Weights]:
    """Reads the weights to `device`. Raises UnsupportedModel."""
    gguf = GGUFFile(files.gguf) if files.gguf is not None else None
    spec = gguf.spec if gguf is not None else spec_from_folder(files.folder)
    if config.load_format == "dummy":
        read = dummy_reader(device, dtype, config.seed or 0)
    else:
        read = gguf.read if gguf is not None else SafetensorsFolder(files.folder).read
    return spec, load_weights(spec, read, device, dtype)
