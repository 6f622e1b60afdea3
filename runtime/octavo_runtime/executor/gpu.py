"""The executor for one CUDA GPU."""

import time

import torch

from octavo_runtime.config import EngineConfig
from octavo_runtime.executor import Masks
from octavo_runtime.executor.memory import free_host_memory, gpu_cache_bytes
from octavo_runtime.executor.model_runner import ModelRunner, make_runner
from octavo_runtime.messages import Ready
from octavo_runtime.model.files import ModelFiles
from octavo_runtime.model.loading import DTYPES, load_model
from octavo_runtime.model.spec import ModelSpec
from octavo_runtime.plan import asked_cache_bytes, reserve_bytes, swap_bytes, token_budget
from octavo_runtime.step import StepPlan, StepResult


class GpuExecutor:
    """See `Executor`. The KV cache takes what weights and reserves leave of the GPU's share; swapped blocks go to
    pinned host memory."""

    ready: Ready
    spec: ModelSpec

    def __init__(self, config: EngineConfig, files: ModelFiles) -> None:
        started = time.perf_counter()
        device, dtype = torch.device("cuda"), DTYPES[config.dtype]
        self.max_num_batched_tokens = token_budget(config, "cuda")
        self.spec, weights = load_model(config, files, device, dtype)
        reserve, memory = reserve_bytes(self.spec, config), torch.cuda.mem_get_info(device)[1]
        asked = asked_cache_bytes(config, gpu_cache_bytes(device, 1.0, reserve), memory)
        cache = gpu_cache_bytes(device, config.gpu_memory_utilization, reserve) if asked is None else asked
        swap = swap_bytes(config, "cuda", cache, free_host_memory())
        self._runner: ModelRunner = make_runner(config, self.spec, weights, device, dtype, cache, swap)
        self.block_bytes = self._runner.block_bytes
        self.swap_bytes_per_second = self._runner.swap_bytes_per_second
        name = torch.cuda.get_device_name(device)
        self.ready = self._runner.describe(name, weights.num_bytes, time.perf_counter() - started)

    def run(self, plan: StepPlan, masks: Masks) -> StepResult:
        """Carries out one step."""
        return self._runner.run(plan, masks)
