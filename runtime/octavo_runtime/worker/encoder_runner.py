"""One step of an encoder: whole prompts in, their vectors or scores out. Nothing stays from step to step."""

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.batch import Batch, PrefillInputs
from octavo_runtime.models.encoder import Encoder, Texts
from octavo_runtime.planning.limits import encoder_max_model_len, token_budget
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.step import Masks, NewRow, Slice, StepPlan, StepResult
from octavo_runtime.worker.executor import Launched
from octavo_runtime.worker.pooling import Pooler
from octavo_runtime.worker.sending import send


class EncoderRunner:
    """The Executor of an encoder on one device. It has no KV cache, so that its plans hold no moves and no blocks."""

    depth = 1

    def __init__(self, config: EngineConfig, encoder: Encoder, *, device: str, started: float) -> None:
        """device: its name. started: when loading began, in seconds of `perf_counter`. Raises DoesNotFit."""
        self.spec = encoder.spec
        self.max_num_batched_tokens = token_budget(config, encoder.embedding.words.device.type)
        self.block_bytes = 0
        self.swap_bytes_per_second = 0.0
        self._encoder = encoder
        self._tells_apart = self.spec.encoder is not None and self.spec.encoder.type_rows > 1
        self._pooler = Pooler(encoder.text_head)
        self._second_texts: dict[int, int] = {}  # by row, where in its prompt the second text of a pair begins
        max_model_len = encoder_max_model_len(config, self.spec.max_position, encoder.task.max_length)
        encoder.reach(max_model_len)
        self.ready = Ready(
            max_model_len=max_model_len,
            vocab_size=self.spec.vocab_size,
            block_size=config.block_size,
            num_blocks=0,
            num_host_blocks=0,
            device=device,
            dtype=str(encoder.embedding.words.dtype).removeprefix("torch."),
            weight_bytes=encoder.num_bytes,
            load_seconds=time.perf_counter() - started,
            hidden_size=encoder.text_head.width(self.spec.hidden_size),
            task=encoder.task,
            keeps_tokens=False,
        )

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> Launched:
        """See `Executor.launch`."""
        for new in plan.new_rows:
            self._set_row(new)
        if not plan.slices:
            return Launched(lambda _: StepResult([]))
        batch, texts = self._packed(plan.slices)
        return Launched(partial(self._finish, plan.slices, batch, self._encoder.forward(texts)))

    def prepare(self) -> bool:
        """Nothing is to be prepared."""
        return False

    def _set_row(self, new: NewRow) -> None:
        self._pooler.set_row(new)
        second = None if new.pooling is None else new.pooling.second_text
        self._second_texts[new.row] = new.prompt_len if second is None else second

    @torch.inference_mode()
    def _finish(self, slices: Sequence[Slice], batch: Batch, hidden: torch.Tensor, _: Masks | None) -> StepResult:
        return StepResult([[] for _ in slices], embeddings=self._pooler.pool(slices, batch, hidden))

    def _packed(self, slices: Sequence[Slice]) -> tuple[Batch, Texts]:
        """The prompts one behind another, in the plan's order."""
        counts = np.array([len(item.token_ids) for item in slices])
        ends = counts.cumsum()
        starts, longest = ends - counts, int(counts.max())
        positions = np.arange(ends[-1]) - np.repeat(starts, counts)
        seconds = np.repeat([self._second_texts[item.row] for item in slices], counts)
        # A type that the model has no row for: it does not tell the texts of a pair apart.
        types = (positions >= seconds) & self._tells_apart
        tables = np.minimum(starts[:, None] + np.arange(longest), ends[-1] - 1).astype(np.int32)
        token_ids = np.concatenate([item.token_ids for item in slices]).astype(np.int64)
        query_start = np.concatenate(([0], ends)).astype(np.int32)
        tokens, places, kinds, tables_there, lens, query_starts = send(
            self._encoder.embedding.words.device,
            token_ids,
            positions,
            types.astype(np.int64),
            tables,
            counts.astype(np.int32),
            query_start,
        )
        lengths = np.stack([counts, counts], axis=1)
        prefill = PrefillInputs([tables_there], lens, query_starts, longest, lengths)
        batch = Batch(tokens, places, places.unsqueeze(0), 0, None, prefill, starts, ends - 1)
        return batch, Texts(tokens, places, kinds, prefill)
