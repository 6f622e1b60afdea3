"""`octavo bench scheduler`: the engine's own work, on a device that computes nothing: CPU time of its thread a step,
however many requests wait, and a prompt of an offline batch, however many there are."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from octavo_runtime.bench.drive import configure
from octavo_runtime.bench.figure import BASELINE, OCTAVO, figure, label, quiet
from octavo_runtime.bench.jobs import percentile, random_prompt
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.no_device import NoDevice
from octavo_runtime.bench.report import Report
from octavo_runtime.config.options import BadOption
from octavo_runtime.config.presets import STEP_TOKENS
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine.offline import answer_all
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer
from octavo_runtime.text.tokenizer_conversion import tokenizer_files

_BLOCK, _BUDGET = 16, STEP_TOKENS["cuda"]
_LONGEST = 16_384  # tokens of a request, of which none ends in a measurement
_PROMPT_TOKENS = 32
_SHARED_TOKENS = 480
_OFFLINE_PROMPT_TOKENS, _OFFLINE_TOKENS = 4, 4
_MOST = 1_000_000
_ENDLESS = SamplingParams(temperature=0.0, ignore_eos=True)


@dataclass(frozen=True)
class Queue:
    """CPU seconds with so many requests `waiting`: to add one; of a step with all rows running, the median; of the
    first step, which fills the empty rows; and of the first step where all prompts begin alike, uncached."""

    waiting: int
    add: float
    step: float
    first_step: float
    first_step_shared: float


@dataclass(frozen=True)
class Batch:
    """An offline batch of so many `prompts`: CPU seconds a prompt."""

    prompts: int
    prompt: float


def run(model: str, running: int, waiting: str, prompts: str, steps: int, seed: int) -> Report:
    """A queue of each length in `waiting`, and a batch of each size in `prompts`."""
    lengths, sizes = _numbers("waiting", waiting, 0), _numbers("prompts", prompts, 1)
    config, files, spec = configure(model), locate(model), find_spec(model)
    tokenizer = load_tokenizer(tokenizer_files(config, files))

    def make() -> tuple[Engine, NoDevice]:
        blocks = running * _LONGEST // _BLOCK
        device = NoDevice(spec, num_blocks=blocks, block_size=_BLOCK, max_num_batched_tokens=max(_BUDGET, running))
        return Engine(configure(model, max_num_seqs=running), files, executor=device), device

    queues = [_measure_queue(make, spec, running, length, steps, seed) for length in lengths]
    batches = [_measure_batch(make, tokenizer, spec, size, seed) for size in sizes]
    return Report(
        name="scheduler",
        finding=_finding(queues, batches, running),
        machine=machine("cpu"),
        setting=f"{running} rows, no model computed",
        table=_table(queues, batches, running),
        draw=lambda context: _draw(queues, batches, running, context),
        figures={
            "running": running,
            "queues": [asdict(one) for one in queues],
            "offline": [asdict(one) for one in batches],
        },
    )


def _measure_queue(
    make: Callable[[], tuple[Engine, NoDevice]], spec: ModelSpec, running: int, waiting: int, steps: int, seed: int
) -> Queue:
    generator = np.random.default_rng(seed)
    prompts = [random_prompt(generator, _PROMPT_TOKENS, spec.vocab_size) for _ in range(max(running, waiting))]
    engine, device = make()
    for index in range(running):
        engine.add_request(f"running-{index}", prompts[index], _ENDLESS)
    while engine.load.running < running:
        engine.step()
    began = time.thread_time()
    for index in range(waiting):
        engine.add_request(f"waiting-{index}", prompts[index], _ENDLESS)
    added = time.thread_time() - began
    prefix = random_prompt(generator, _SHARED_TOKENS, spec.vocab_size)
    return Queue(
        waiting=waiting,
        add=added / max(waiting, 1),
        step=percentile([_step_seconds(engine, device) for _ in range(steps)], 50),
        first_step=_first_step(make, prompts[:waiting]),
        first_step_shared=_first_step(make, [prefix + prompt for prompt in prompts[:waiting]]),
    )


def _first_step(make: Callable[[], tuple[Engine, NoDevice]], prompts: list[list[int]]) -> float:
    engine, device = make()
    for index, prompt in enumerate(prompts):
        engine.add_request(str(index), prompt, _ENDLESS)
    return _step_seconds(engine, device)


def _step_seconds(engine: Engine, device: NoDevice) -> float:
    """One step and the report of its load, as the engine's process does."""
    began, elsewhere = time.thread_time(), device.seconds
    engine.step()
    _ = engine.load
    return time.thread_time() - began - (device.seconds - elsewhere)


def _measure_batch(
    make: Callable[[], tuple[Engine, NoDevice]], tokenizer: Tokenizer, spec: ModelSpec, size: int, seed: int
) -> Batch:
    generator = np.random.default_rng(seed)
    prompts = {str(one): random_prompt(generator, _OFFLINE_PROMPT_TOKENS, spec.vocab_size) for one in range(size)}
    params = [SamplingParams(temperature=0.0, max_tokens=_OFFLINE_TOKENS, ignore_eos=True)] * size
    engine, device = make()
    began = time.thread_time()
    answer_all(engine, tokenizer, prompts, params, show=False)
    return Batch(size, (time.thread_time() - began - device.seconds) / size)


def _numbers(name: str, text: str, least: int) -> list[int]:
    try:
        numbers = sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise BadOption(f"{name}: must be whole numbers such as 1000,10000, got {text!r}") from None
    for number in numbers:
        if not least <= number <= _MOST:
            raise BadOption(f"{name}: must be from {least} to {_MOST:,}, got {number}")
    return numbers


def _finding(queues: list[Queue], batches: list[Batch], running: int) -> str:
    return (
        f"With {queues[-1].waiting:,} waiting a step of {running} costs {queues[-1].step * 1e3:.2f} ms of the CPU; "
        f"of {batches[-1].prompts:,} prompts each {batches[-1].prompt * 1e6:.0f} µs"
    )


def _table(queues: list[Queue], batches: list[Batch], running: int) -> Table:
    steps = Table(caption=f"The first step starts what its {_BUDGET:,} tokens hold; alike: {_SHARED_TOKENS} tokens")
    for heading in ("waiting", f"a step of {running}, ms", "the first step, ms", "all alike, ms", "to add one, µs"):
        steps.add_column(heading, justify="right")
    for queue in queues:
        times = (f"{seconds * 1e3:.2f}" for seconds in (queue.step, queue.first_step, queue.first_step_shared))
        steps.add_row(f"{queue.waiting:,}", *times, f"{queue.add * 1e6:.1f}" if queue.waiting else "-")
    offline = Table()
    for heading in ("prompts of an offline batch", "each, µs"):
        offline.add_column(heading, justify="right")
    for batch in batches:
        offline.add_row(f"{batch.prompts:,}", f"{batch.prompt * 1e6:.0f}")
    both = Table.grid(padding=(0, 0, 1, 0))
    both.add_row(steps)
    both.add_row(offline)
    return both


def _draw(queues: list[Queue], batches: list[Batch], running: int, context: str) -> Figure:
    picture = figure(
        _finding(queues, batches, running),
        "CPU time of the engine's thread, the device left out",
        context,
    )
    left, right = picture.subplots(1, 2)
    waiting, milliseconds = [queue.waiting for queue in queues], [queue.step * 1e3 for queue in queues]
    left.plot(waiting, milliseconds, "o-", color=OCTAVO)
    left.axhline(0.5, color=BASELINE, linestyle="--", linewidth=1)
    label(left, waiting[-1], 0.5, "goal", BASELINE)
    left.set_ylim(0, max(1.0, 1.3 * max(milliseconds)))
    quiet(left, x="requests that wait", y=f"a step of {running}, ms")
    sizes, microseconds = [batch.prompts for batch in batches], [batch.prompt * 1e6 for batch in batches]
    right.plot(sizes, microseconds, "o-", color=OCTAVO)
    right.set_ylim(0, 1.5 * max(microseconds))
    quiet(right, x="prompts of an offline batch", y="each prompt, µs")
    return picture
