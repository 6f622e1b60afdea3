"""The executor for CPUs."""

import time

import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Team
from octavo_runtime.models.loading.checkpoint import DTYPES, load_encoder
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.planning.kv_cache import asked_cache_bytes, cpu_cache_bytes, swap_bytes
from octavo_runtime.worker.encoder_runner import EncoderRunner
from octavo_runtime.worker.memory import free_host_memory
from octavo_runtime.worker.model_runner import ModelRunner, make_runner
from octavo_runtime.worker.share import load_share
from octavo_runtime.worker.threads import available_cpus


def cpu_executor(config: EngineConfig, files: ModelFiles, team: Team | None = None) -> ModelRunner:
    """A model, or a rank's share of it, on this machine's CPUs, which the ranks share. The KV cache and the room for
    swapped blocks both lie in host memory. Raises ValueError, see make_executor."""
    started, ranks = time.perf_counter(), config.local_ranks
    torch.set_num_threads(max((config.cpu_threads or available_cpus()) // ranks, 1))
    decoder = load_share(config, files, torch.device("cpu"), DTYPES[config.dtype], team)
    free = free_host_memory() // ranks
    asked = asked_cache_bytes(config, free, free + decoder.num_bytes)
    cache = cpu_cache_bytes(free) if asked is None else asked
    swap = swap_bytes(config, "cpu", cache, free - cache)
    return make_runner(config, decoder, cache, swap, team, device="cpu", started=started)


def cpu_encoder(config: EngineConfig, files: ModelFiles) -> EncoderRunner:
    """An encoder on this machine's CPUs. Raises ValueError, see make_executor."""
    started = time.perf_counter()
    torch.set_num_threads(config.cpu_threads or available_cpus())
    encoder = load_encoder(config, files, torch.device("cpu"), DTYPES[config.dtype])
    return EncoderRunner(config, encoder, device="cpu", started=started)
