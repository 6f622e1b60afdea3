"""A device that computes a step only when somebody waits for it, and histories of requests to try it with."""

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache

import msgspec
from hypothesis import strategies as st
from simulated_device import VOCAB, SimulatedDevice

from octavo_runtime.bench.no_device import NoDevice
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.loading.files import locate
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import UNKNOWN, NewRow, Slice, StepPlan, StepResult
from octavo_runtime.worker.executor import Launched

MODEL = "builtin://smollm2"
BLOCK = 8
LONGEST = 5 * BLOCK  # tokens of a request
read_spec = cache(find_spec)
happened: Counter[str] = Counter()


class LateDevice(NoDevice):
    """Computes step by step on a simulated device. leads: whether its steps may, as far as their rows draw plainly.
    depth: steps that may be under way at once, each of other rows. window: of every other layer; blocks: for each group
    of layers. vocab: see SimulatedDevice."""

    def __init__(
        self,
        blocks: int,
        host_blocks: int,
        budget: int,
        *,
        leads: bool,
        depth: int = 1,
        window: int | None = None,
        vocab: int = VOCAB,
    ) -> None:
        spec = read_spec(MODEL)
        if window is not None:
            spec = replace(spec, window=window, windowed_layers=frozenset(range(0, spec.num_layers, 2)))
        windows = group_windows(spec)
        blocks *= len(windows)
        super().__init__(spec, num_blocks=blocks, block_size=BLOCK, max_num_batched_tokens=budget)
        self.ready = msgspec.structs.replace(self.ready, num_host_blocks=host_blocks, max_model_len=LONGEST)
        self.device = SimulatedDevice(blocks, host_blocks, BLOCK, windows, vocab)
        self.leads = leads
        self.depth = depth
        self.drawing: list[set[int]] = []  # rows of the steps under way
        self.under_way: list[bool] = []  # of each step, whether it leads
        self.rows: dict[int, NewRow] = {}
        self.newest: dict[int, int] = {}

    def launch(self, plan: StepPlan) -> Launched:
        assert not plan.masked
        assert self.depth > 1 or all(self.under_way), "a step that does not lead was not waited for"
        assert len(self.under_way) < max(self.depth, 2)
        self.rows.update({new.row: new for new in plan.new_rows})
        assert all(UNKNOWN not in new.token_ids for new in plan.new_rows)
        leads = self.leads and all(self.is_plain(item) for item in plan.slices)
        if self.depth > 1:
            for rows in self.drawing:  # who had them has ended
                rows.difference_update(new.row for new in plan.new_rows)
            drawing = {item.row for item in plan.slices if item.draws}
            assert not drawing & set().union(*self.drawing), "a row draws whose last token nobody knows"
            self.drawing.append(drawing)
        happened["ahead" if self.depth == 1 else "side by side"] += bool(self.under_way)
        self.under_way.append(leads)
        return Launched(lambda _: self.compute(plan), leads)

    def is_plain(self, item: Slice) -> bool:
        new = self.rows[item.row]
        plain = item.num_drawn <= 1 and not new.params.presence_penalty and new.pooling is None
        assert plain or UNKNOWN not in item.token_ids
        return plain

    def compute(self, plan: StepPlan) -> StepResult:
        self.under_way.pop(0)
        if self.depth > 1:
            self.drawing.pop(0)
        known = [
            Slice(item.row, item.start, [self.newest[item.row]], item.draws) if item.token_ids == [UNKNOWN] else item
            for item in plan.slices
        ]
        result = self.device.run(StepPlan(plan.moves, plan.new_rows, plan.tables, known))
        for item, samples in zip(known, result.samples, strict=True):
            if samples:
                self.newest[item.row] = samples[0].token_id
        return result


requests = st.tuples(
    st.integers(1, 3 * BLOCK),  # tokens of the prompt
    st.integers(0, 1),  # whose beginning it shares
    st.integers(1, 2 * BLOCK),  # max_tokens
    st.lists(st.integers(0, VOCAB - 1), max_size=6),  # tokens that end it
    st.sampled_from([{}, {}, {}, {"presence_penalty": 0.5}, {"n": 2}, {"pooling": "last"}]),
)
turns = st.lists(st.tuples(st.lists(requests, max_size=3), st.integers(0, 9)), min_size=1, max_size=12)
# What an engine may meet, by the names of what `LateDevice` and EngineConfig are made with.
CIRCUMSTANCES = {
    "history": turns,
    "blocks": st.integers(6, 24),
    "host_blocks": st.integers(0, 8),
    "budget": st.integers(8, 40),
    "prefix_caching": st.booleans(),
    "mode": st.sampled_from(["swap", "recompute"]),
    "window": st.sampled_from([None, 5, 2 * BLOCK]),
}


def answer(device: LateDevice, history: list, rows: int, **config: object) -> tuple[dict, set[str]]:
    """What each answer is and how it ends, by request and index; and the requests that were aborted. Between two steps
    requests arrive, and one may be aborted."""
    engine = Engine(
        EngineConfig.model_validate({"model": MODEL, "device": "cpu", "max_num_seqs": rows, **config}),
        locate(MODEL),
        executor=device,
    )
    answers, aborted = defaultdict(list), set()
    arrived = 0

    def step() -> None:
        outputs = engine.step()
        engine.check_integrity()
        for output in outputs:
            assert output.error is None
            assert output.request_id not in aborted, "an answer that nobody waits for"
            given = answers[output.request_id, output.index]
            assert given[-1:] in ([], [None]), "an answer goes on behind its end"
            given[-2:] = [*output.token_ids, output.embedding, output.finish_reason]

    for fresh, victim in history:
        for length, family, most, ends, kind in fresh:
            prompt = [family] * (length - 1) + [100 + arrived]
            kind = {"max_tokens": most, "ignore_eos": True, "stop_token_ids": ends, **kind}
            if "pooling" in kind:
                engine.add_embedding(str(arrived), prompt, PoolingParams(pooling="last"))
            else:
                engine.add_request(str(arrived), prompt, SamplingParams(**kind))
            arrived += 1
        step()
        if victim < 3 and str(arrived - 1 - victim) in engine:
            engine.abort(str(arrived - 1 - victim))
            aborted.add(str(arrived - 1 - victim))
            engine.check_integrity()
    while engine.has_work:
        step()
    load = engine.load
    assert (load.blocks_used, load.running, load.waiting, device.under_way) == (0, 0, 0, [])
    happened["preempted"] += load.recomputes + load.swaps
    happened["found in the cache"] += load.prefix_hits
    happened["guessed"] += load.guessed
    happened["guessed right"] += load.guessed_right
    happened["stopped"] += sum(given[-1] == "stop" for given in answers.values())
    happened["aborted"] += len(aborted)
    return dict(answers), aborted
