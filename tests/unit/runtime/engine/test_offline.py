"""A batch of prompts on a device that computes nothing: what runs, what is refused, and what one prompt's failure does
to the others."""

from functools import cache

import numpy as np
import pytest

from octavo_runtime.bench.no_device import NoDevice
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.admission import Handling
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine.offline import answer_all
from octavo_runtime.models.loading.files import locate
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams, StructuredOutput
from octavo_runtime.protocol.step import StepPlan
from octavo_runtime.text.prompt import listed, prompt_ids
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer

MODEL = "builtin://smollm2"
PLAIN = SamplingParams(max_tokens=5, ignore_eos=True)
PROMPTS = {"a": [1, 2, 3], "b": [4, 5], "c": [6]}
read_spec = cache(find_spec)


def formed(**form: object) -> SamplingParams:
    return SamplingParams(max_tokens=5, structured_outputs=StructuredOutput(**form))


class CountingDevice(NoDevice):
    """Draws token 7 whatever a grammar allows."""

    steps = 0

    def launch(self, plan: StepPlan):
        self.steps += 1
        return super().launch(plan)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(locate(MODEL))


@pytest.fixture(scope="module")
def device() -> CountingDevice:
    return CountingDevice(read_spec(MODEL), num_blocks=256, block_size=16, max_num_batched_tokens=512)


@pytest.fixture(scope="module")
def engine(device) -> Engine:
    return Engine(EngineConfig(model=MODEL, device="cpu"), locate(MODEL), executor=device)


def test_a_grammar_that_does_not_compile_refuses_the_batch_before_anything_runs(engine, device, tokenizer):
    before = device.steps
    with pytest.raises(InvalidParameter, match=r"^structured_outputs.regex does not compile"):
        answer_all(engine, tokenizer, PROMPTS, [PLAIN, PLAIN, formed(regex="[ab")], show=False)
    assert device.steps == before
    assert not engine.has_work


def test_an_answer_that_cannot_keep_to_its_form_fails_alone(engine, tokenizer):
    first, failed, last = answer_all(engine, tokenizer, PROMPTS, [PLAIN, formed(regex="[0-9]{9}"), PLAIN], show=False)
    for one in (first, last):
        assert (one.error, one.outputs[0].token_ids, one.outputs[0].finish_reason) == (None, [7] * 5, "length")
    assert [answer.finish_reason for answer in failed.outputs] == ["error"]
    assert failed.finished
    assert failed.error.field == "structured_outputs"
    assert failed.error.message.startswith("structured_outputs cannot be met: ")
    assert failed.error.message.count("structured_outputs") == 1


def test_more_forms_than_are_kept_compile_in_one_batch(engine, tokenizer):
    """Grammars keeps 64 and lets 64 wait: a batch may hold more."""
    count = 70
    params = [formed(choice=(f"word {index}",)) for index in range(count)]
    results = answer_all(engine, tokenizer, {str(index): [1] for index in range(count)}, params, show=False)
    assert {result.error.kind for result in results} == {"invalid"}, "token 7 suits none, and none was turned away"


@pytest.mark.parametrize(("ids", "shown"), [([5.0, 6], "5.0"), ([5, True], "True"), ([5, None], "None")])
def test_token_ids_are_integers(tokenizer, engine, ids, shown):
    words = f"prompt token ids must be integers, got {shown}"
    with pytest.raises(InvalidParameter, match=words):
        prompt_ids(ids, tokenizer)
    with pytest.raises(InvalidParameter, match=words):
        engine.add_request("r", ids, PLAIN)
    assert not engine.has_work


def test_prompts_come_in_many_forms(tokenizer):
    assert prompt_ids(np.array([1, 2]), tokenizer) == prompt_ids([np.int64(1), 2], tokenizer) == [1, 2]
    assert {type(one) for one in prompt_ids(np.array([1, 2]), tokenizer)} == {int}
    assert listed("text") == ["text"]
    assert listed(["a", [1]]) == ["a", [1]]
    assert listed([1, 2]) == [[1, 2]]
    assert listed([5.0, 2]) == [[5.0, 2]]
    assert [list(one) for one in listed(np.array([[1, 2], [3, 4]]))] == [[1, 2], [3, 4]]


def test_without_a_seed_no_two_engines_draw_alike_and_with_one_they_do(device):
    def seeds(**config: int) -> list[int]:
        admission = Engine(EngineConfig(model=MODEL, device="cpu", **config), locate(MODEL), executor=device)._admission
        return [admission.generation(str(index), [1], PLAIN, Handling(0, "", None), 0).seed for index in range(3)]

    assert seeds() != seeds()
    assert seeds(seed=4) == seeds(seed=4) != seeds(seed=5)
    assert len(set(seeds(seed=0))) == 3
    assert 1 not in seeds(seed=0), "no request without a seed draws as one with seed 1 does"
