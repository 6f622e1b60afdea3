"""Large requests are worked on beside the event loop, one after the other, and what cannot fit is not worked on."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from patience import PATIENCE

from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.generation import bounds
from octavo_runtime.server.generation.bounds import check_prompt_logprobs, check_text
from octavo_runtime.server.generation.generation import render
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.http.errors import ApiError, error_message
from octavo_runtime.server.http.record import RequestRecord, begin_request

SMALL, LARGE = 1000, 10_000_000


async def threads_of(sizes: list[int]) -> list[tuple[str, int]]:
    """The name of the thread in which each of several requests at once is worked on, and how many were then in it."""
    inside: dict[str, int] = {}
    lock = threading.Lock()
    all_here = threading.Barrier(sum(size == SMALL for size in sizes) or 1)

    def work(size: int) -> tuple[str, int]:
        name = threading.current_thread().name if size == LARGE else "small"
        with lock:
            inside[name] = inside.get(name, 0) + 1
            found = inside[name]
        if size == SMALL:
            all_here.wait(PATIENCE)
        with lock:
            inside[name] -= 1
        return name, found

    async def request(size: int) -> tuple[str, int]:
        begin_request(RequestRecord(body_bytes=size))
        return await in_thread(work, size)

    return list(await asyncio.gather(*(request(size) for size in sizes)))


def test_large_requests_wait_for_one_another_and_small_ones_do_not():
    found = asyncio.run(threads_of([LARGE] * 8 + [SMALL] * 3))
    names = {name for name, _ in found[:8]}
    assert len(names) == 1
    assert names != {threading.current_thread().name}
    assert [together for _, together in found[:8]] == [1] * 8
    assert {name for name, _ in found[8:]} == {"small"}


def test_a_threads_error_is_the_requests():
    def work() -> None:
        raise ApiError(400, "so it is")

    with pytest.raises(ApiError, match="so it is"):
        asyncio.run(in_thread(work))


def scored(prompt: int = 0, answer: int = 0, **params: Any) -> Any:
    answers = SimpleNamespace(prompt_logprobs=[None] * prompt, all=[SimpleNamespace(logprobs=[None] * answer)])
    return SimpleNamespace(ask=SimpleNamespace(params=SamplingParams(**params)), answers=answers)


@pytest.mark.parametrize(
    ("generations", "on_the_loop"),
    [
        ([scored()], True),
        ([scored(answer=40, logprobs=20)], True),
        ([scored(answer=60, logprobs=20)], False),
        ([scored(answer=40, logprobs=20)] * 2, False),
        ([scored(prompt=20, prompt_logprobs=64)], False),
    ],
    ids=range(5),
)
def test_many_log_probabilities_are_written_beside_the_loop(generations, on_the_loop):
    async def where() -> bool:
        here = threading.get_ident()
        return here == await render(generations, threading.get_ident)

    assert asyncio.run(where()) is on_the_loop


def test_the_log_probabilities_of_prompts_have_a_bound():
    most = bounds._MOST_PROMPT_LOGPROBS
    check_prompt_logprobs(None, most, "prompt_logprobs")
    check_prompt_logprobs(64, most // 65, "prompt_logprobs")
    check_prompt_logprobs(1, most // 2, "prompt_logprobs")
    for top, tokens in ((64, most // 65 + 1), (1, most)):
        with pytest.raises(ApiError) as error:
            check_prompt_logprobs(top, tokens, "logprobs")
        assert error.value.field == "logprobs"
        assert f"at most {most} log-probabilities" in error_message(error.value)


def test_text_that_cannot_fit_is_told_by_its_length():
    model: Any = SimpleNamespace(max_model_len=10, tokenizer=SimpleNamespace(longest_token=3))
    check_text(model, 29, "input")
    with pytest.raises(ApiError) as error:
        check_text(model, 30, "input")
    assert error.value.field == "input"
    check_text(model, 30, "input", last=5)
