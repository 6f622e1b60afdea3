"""An executor that computes nothing, so that what is left of a step is the engine's own work."""

import time

from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.step import Sample, StepPlan, StepResult
from octavo_runtime.worker.executor import Launched

_TOKEN = Sample(7)


class NoDevice:
    """See `Executor`. Each draw brings the same token, and answers may be as long as the blocks hold. `seconds`: CPU
    time that went here, which is not the engine's."""

    def __init__(self, spec: ModelSpec, *, num_blocks: int, block_size: int, max_num_batched_tokens: int) -> None:
        self.spec = spec
        self.max_num_batched_tokens = max_num_batched_tokens
        self.block_bytes = 1
        self.swap_bytes_per_second = 1.0
        self.depth = 1
        self.seconds = 0.0
        self.ready = Ready(
            max_model_len=num_blocks * block_size,
            vocab_size=spec.vocab_size,
            block_size=block_size,
            num_blocks=num_blocks,
            num_host_blocks=0,
            device="cpu",
            dtype="none",
            weight_bytes=0,
            load_seconds=0.0,
            hidden_size=spec.word_size,
        )

    def launch(self, plan: StepPlan) -> Launched:
        """Carries out no step."""
        began = time.thread_time()
        result = StepResult([[_TOKEN for _ in range(item.num_drawn)] for item in plan.slices])
        self.seconds += time.thread_time() - began
        return Launched(lambda _: result)

    def prepare(self) -> bool:
        """Nothing is to be prepared."""
        return False
