"""The executor for one CUDA GPU."""

import time

import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Team
from octavo_runtime.models.loading.checkpoint import DTYPES, load_encoder
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.planning.kv_cache import asked_cache_bytes, swap_bytes
from octavo_runtime.planning.reserves import reserve_bytes
from octavo_runtime.worker.encoder_runner import EncoderRunner
from octavo_runtime.worker.memory import free_host_memory, gpu_cache_bytes
from octavo_runtime.worker.model_runner import ModelRunner, make_runner
from octavo_runtime.worker.share import load_share


def cuda_executor(config: EngineConfig, files: ModelFiles, team: Team | None = None) -> ModelRunner:
    """A model, or a rank's share of it, on a GPU. The KV cache takes what weights and reserves leave of the memory that
    may be used; swapped blocks go to host memory. Raises ValueError, see make_executor."""
    started, device = time.perf_counter(), torch.device("cuda")
    decoder = load_share(config, files, device, DTYPES[config.dtype], team)
    reserve, memory = reserve_bytes(decoder.spec, config), torch.cuda.mem_get_info(device)[1]
    asked = asked_cache_bytes(config, gpu_cache_bytes(device, 1.0, reserve), memory)
    cache = gpu_cache_bytes(device, config.gpu_memory_utilization, reserve) if asked is None else asked
    swap = swap_bytes(config, "cuda", cache, free_host_memory() // config.local_ranks)
    return make_runner(config, decoder, cache, swap, team, device=torch.cuda.get_device_name(device), started=started)


def cuda_encoder(config: EngineConfig, files: ModelFiles) -> EncoderRunner:
    """An encoder on a GPU. Raises ValueError, see make_executor."""
    started, device = time.perf_counter(), torch.device("cuda")
    encoder = load_encoder(config, files, device, DTYPES[config.dtype])
    return EncoderRunner(config, encoder, device=torch.cuda.get_device_name(device), started=started)
