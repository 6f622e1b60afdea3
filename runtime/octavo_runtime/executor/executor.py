"""Runs the scheduler's slices on one device: the model, its KV cache and the sampler."""

import os
import time
from collections.abc import Sequence

import torch

from octavo_runtime.config import EngineConfig, parse_quantity
from octavo_runtime.executor.batch import build_batch
from octavo_runtime.executor.memory import cpu_cache_bytes, gpu_cache_bytes
from octavo_runtime.messages import Ready
from octavo_runtime.model.decoder import Decoder
from octavo_runtime.model.files import ModelFiles
from octavo_runtime.model.gguf_file import GGUFFile
from octavo_runtime.model.rope import rope_table
from octavo_runtime.model.safetensors_folder import SafetensorsFolder
from octavo_runtime.model.spec import ModelSpec, UnsupportedModel, spec_from_folder
from octavo_runtime.model.weights import ReadTensor, dummy_reader, load_weights
from octavo_runtime.plan import kv_bytes_per_block, settle_max_model_len, token_budget
from octavo_runtime.sampler import sample, sampling_row
from octavo_runtime.scheduler import Slice

DTYPES = {"auto": torch.bfloat16, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Executor:
    """A loaded model on one device. `ready` says what it settled on."""

    def __init__(self, config: EngineConfig, files: ModelFiles) -> None:
        started = time.perf_counter()
        self.device = _device(config)
        if self.device.type == "cpu":
            torch.set_num_threads(config.cpu_threads or len(os.sched_getaffinity(0)))
        self._seed = config.seed
        dtype = DTYPES[config.dtype]
        self.spec, read = _open(files, config, self.device, dtype)
        weights = load_weights(self.spec, read, self.device, dtype)
        self.max_num_batched_tokens = token_budget(config, self.device.type)
        block_bytes = kv_bytes_per_block(self.spec, config.block_size, dtype.itemsize)
        num_blocks = self._cache_bytes(config) // block_bytes
        max_model_len = settle_max_model_len(config, self.spec.max_position, num_blocks)
        self._decoder = Decoder(self.spec, weights, rope_table(self.spec, max_model_len, self.device))
        # Zeroed once: a stale NaN in a slot that attention masks would still spoil the sum (0 * NaN is NaN).
        self._kv_cache = torch.zeros(
            (self.spec.num_layers, 2, num_blocks, config.block_size, self.spec.num_kv_heads, self.spec.head_dim),
            dtype=dtype,
            device=self.device,
        )
        self.ready = Ready(
            max_model_len=max_model_len,
            vocab_size=self.spec.vocab_size,
            block_size=config.block_size,
            num_blocks=num_blocks,
            device=torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            dtype=str(dtype).removeprefix("torch."),
            weight_bytes=weights.num_bytes,
            load_seconds=time.perf_counter() - started,
        )

    @torch.inference_mode()
    def run(self, slices: Sequence[Slice]) -> list[tuple[Slice, int]]:
        """Computes the slices; a new token for each one that samples."""
        batch = build_batch(slices, self.ready.block_size, self.device)
        hidden = self._decoder.forward(batch, self._kv_cache)
        if not batch.sampled:
            return []
        logits = self._decoder.logits(hidden[batch.sample_rows])
        tokens = sample(logits, [sampling_row(item, self._seed) for item in batch.sampled])
        return list(zip(batch.sampled, tokens.tolist(), strict=True))

    def _cache_bytes(self, config: EngineConfig) -> int:
        if config.kv_cache_memory is not None:
            return parse_quantity(config.kv_cache_memory)
        if self.device.type == "cpu":
            return cpu_cache_bytes()
        return gpu_cache_bytes(self.device, config.gpu_memory_utilization, self._activation_bytes())

    def _activation_bytes(self) -> int:
        """Upper bound of a step's temporary tensors: the MLP's inner state and the sampled rows' float32 logits live
        at once."""
        spec, tokens = self.spec, self.max_num_batched_tokens
        per_token = 4 * spec.hidden_size + spec.qkv_size + 3 * spec.intermediate_size
        return tokens * per_token * 4 + 4 * 4 * spec.vocab_size * min(tokens, 256) + 2**28


def _device(config: EngineConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise UnsupportedModel("device: cuda was asked for, but this machine has no CUDA device that PyTorch can use")
    return torch.device("cuda" if config.device != "cpu" and available else "cpu")


def _open(
    files: ModelFiles, config: EngineConfig, device: torch.device, dtype: torch.dtype
) -> tuple[ModelSpec, ReadTensor]:
    """The model's shape and the source of its weights."""
    if config.load_format == "dummy":
        spec = GGUFFile(files.gguf).spec if files.gguf else spec_from_folder(files.folder)
        return spec, dummy_reader(device, dtype, config.seed)
    if files.gguf is not None:
        gguf = GGUFFile(files.gguf)
        return gguf.spec, gguf.read
    return spec_from_folder(files.folder), SafetensorsFolder(files.folder).read
