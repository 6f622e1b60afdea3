"""The executor for CPUs."""

import time

import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.checkpoint import DTYPES, load_model
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.memory import asked_cache_bytes, cpu_cache_bytes, swap_bytes, token_budget
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.step import StepPlan
from octavo_runtime.worker.executor import Launched, Masks
from octavo_runtime.worker.memory import free_host_memory
from octavo_runtime.worker.model_runner import ModelRunner, make_runner
from octavo_runtime.worker.threads import available_cpus


class CpuExecutor:
    """See `Executor`. The KV cache and the room for swapped blocks both lie in host memory."""

    ready: Ready
    spec: ModelSpec

    def __init__(self, config: EngineConfig, files: ModelFiles) -> None:
        started = time.perf_counter()
        torch.set_num_threads(config.cpu_threads or available_cpus())
        device, dtype = torch.device("cpu"), DTYPES[config.dtype]
        self.max_num_batched_tokens = token_budget(config, "cpu")
        decoder = load_model(config, files, device, dtype)
        self.spec = decoder.spec
        free = free_host_memory()
        asked = asked_cache_bytes(config, free, free + decoder.num_bytes)
        cache = cpu_cache_bytes(free) if asked is None else asked
        swap = swap_bytes(config, "cpu", cache, free - cache)
        self._runner: ModelRunner = make_runner(config, decoder, cache, swap)
        self.block_bytes = self._runner.block_bytes
        self.swap_bytes_per_second = self._runner.swap_bytes_per_second
        self.ready = self._runner.describe("cpu", time.perf_counter() - started)

    def launch(self, plan: StepPlan, masks: Masks | None) -> Launched:
        """See `Executor.launch`."""
        return self._runner.launch(plan, masks)

    def prepare(self) -> bool:
        """See `Executor.prepare`."""
        return self._runner.prepare()
