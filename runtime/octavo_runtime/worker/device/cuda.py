"""The executor for one CUDA GPU."""

import time

import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.checkpoint import DTYPES, load_model
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.memory import asked_cache_bytes, reserve_bytes, swap_bytes, token_budget
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.step import StepPlan
from octavo_runtime.worker.executor import Launched, Masks
from octavo_runtime.worker.memory import free_host_memory, gpu_cache_bytes
from octavo_runtime.worker.model_runner import ModelRunner, make_runner


class GpuExecutor:
    """See `Executor`. The KV cache takes what weights and reserves leave of the GPU's share; swapped blocks go to
    pinned host memory."""

    ready: Ready
    spec: ModelSpec

    def __init__(self, config: EngineConfig, files: ModelFiles) -> None:
        started = time.perf_counter()
        device, dtype = torch.device("cuda"), DTYPES[config.dtype]
        self.max_num_batched_tokens = token_budget(config, "cuda")
        decoder = load_model(config, files, device, dtype)
        self.spec = decoder.spec
        reserve, memory = reserve_bytes(self.spec, config), torch.cuda.mem_get_info(device)[1]
        asked = asked_cache_bytes(config, gpu_cache_bytes(device, 1.0, reserve), memory)
        cache = gpu_cache_bytes(device, config.gpu_memory_utilization, reserve) if asked is None else asked
        swap = swap_bytes(config, "cuda", cache, free_host_memory())
        self._runner: ModelRunner = make_runner(config, decoder, cache, swap)
        self.block_bytes = self._runner.block_bytes
        self.swap_bytes_per_second = self._runner.swap_bytes_per_second
        name = torch.cuda.get_device_name(device)
        self.ready = self._runner.describe(name, time.perf_counter() - started)

    def launch(self, plan: StepPlan, masks: Masks | None) -> Launched:
        """See `Executor.launch`."""
        return self._runner.launch(plan, masks)

    def prepare(self) -> bool:
        """See `Executor.prepare`."""
        return self._runner.prepare()
