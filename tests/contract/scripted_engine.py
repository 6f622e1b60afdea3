"""A stand-in for EngineClient that answers from a script, and does odd things when the prompt asks for them."""

import asyncio
import math
import re
import struct
from collections.abc import AsyncGenerator

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine_process.client import EngineFailure
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.messages import BlockMap, Load, Output, Ready, RequestError
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import TokenLogprobs
from octavo_runtime.text.tokenizer import load_tokenizer

ANSWER = "The capital of France is Paris. It lies on the Seine, in the north of the country; voilà ✨."
MAX_MODEL_LEN = 2048
ERRORS = {
    "invalid": RequestError("invalid", "does not compile: so it says", "structured_outputs.json"),
    "overloaded": RequestError("overloaded", "max_queue_len: at most 1 requests may wait, 1 do"),
    "queue_timeout": RequestError("queue_timeout", "queue_timeout: the request waited over 1s"),
    "deadline": RequestError("deadline", "timeout: the request did not end within its time limit"),
}


class ScriptedEngine:
    """Gives ANSWER and the end-of-sequence token, one token a step, n times over. Words in the prompt change that:
    [say]TEXT[/say] answers with TEXT; [slow] takes 20 ms a token, over and over; [wait] takes 1 s
    before all else; [refuse KIND] ends this request with an error of that kind before any token, [error KIND] after 2;
    [die] ends the engine after 2 tokens; [hang] makes the engine look hung."""

    def __init__(self, program: str = "") -> None:
        self.ready: Ready | None = None
        self.aborted: set[tuple[str, int]] = set()
        self._running = 0
        self._failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._hung = False

    @property
    def load(self) -> Load:
        return Load(running=self._running, blocks_used=self._running, blocks_total=10)

    async def start(self, config: EngineConfig) -> Ready:
        self._tokenizer = await asyncio.to_thread(load_tokenizer, locate("builtin://smollm2"))
        if config.seed == 13:
            raise EngineFailure("the script says that the engine cannot start")
        self._seed = config.seed
        self.ready = Ready(MAX_MODEL_LEN, 49152, 16, 10, 0, "script", "float32", 1, 0.1, 8)
        if config.seed == 14:
            await asyncio.sleep(3600)
        return self.ready

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[Output, None]:
        if self._seed == 15:
            await asyncio.sleep(3600)
        if self._seed == 16:
            yield Output(request_id, [], "error", error=ERRORS["deadline"])
            return
        wish = self._tokenizer.decode(prompt)
        said = re.findall(r"\[say\](.*?)\[/say\]", wish, re.DOTALL)
        script = self._tokenizer.encode(said[-1] if said else ANSWER, add_special_tokens=False)
        script = script * 100 if "[slow]" in wish else [*script, self._tokenizer.eos_token_ids[0]]
        limit = params.max_tokens or MAX_MODEL_LEN - len(prompt)
        self._hung = self._hung or "[hang]" in wish
        self._running += 1
        try:
            await asyncio.sleep(1 if "[wait]" in wish else 0)
            for count, token in enumerate(script, start=1):
                await asyncio.sleep(0.02 if "[slow]" in wish else 0)
                for kind, error in ERRORS.items():
                    if f"[refuse {kind}]" in wish or (f"[error {kind}]" in wish and count > 2):
                        yield Output(request_id, [], "error", error=error)
                        return
                if "[die]" in wish and count > 2 and not self._failure.done():
                    self._failure.set_result("the script says that the engine died")
                if self._failure.done():
                    raise EngineFailure(self._failure.result())
                last = token in self._tokenizer.eos_token_ids and not params.ignore_eos
                reason = "stop" if last else "length" if count == limit else None
                for index in range(params.num_answers):
                    if (request_id, index) not in self.aborted:
                        first = count == 1
                        yield Output(
                            request_id,
                            [token],
                            reason,
                            index,
                            _logprobs(token, params.logprobs),
                            prompt_logprobs=_prompt_logprobs(prompt, params.prompt_logprobs) if first else None,
                            queued=0.0001 if first else None,
                        )
                if reason is not None or all((request_id, one) in self.aborted for one in range(params.num_answers)):
                    return
        finally:
            self._running -= 1

    async def embed(
        self,
        request_id: str,
        prompt: list[int],
        params: PoolingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> Output:
        """Eight numbers that come from the prompt's tokens; the words [slow], for 3 s, [refuse KIND] and [die] work."""
        wish = self._tokenizer.decode(prompt)
        self._running += 1
        try:
            await asyncio.sleep(3 if "[slow]" in wish else 0)
            for kind, error in ERRORS.items():
                if f"[refuse {kind}]" in wish:
                    return Output(request_id, [], "error", error=error)
            if "[die]" in wish and not self._failure.done():
                self._failure.set_result("the script says that the engine died")
            if self._failure.done():
                raise EngineFailure(self._failure.result())
            tokens = prompt if params.pooling in (None, "mean") else prompt[-1:]
            vector = [sum(token % (place + 2) for token in tokens) / len(tokens) for place in range(8)]
            length = math.hypot(*vector) or 1.0
            scaled = [number / length for number in vector] if params.normalize is not False else vector
            return Output(request_id, [], "stop", embedding=struct.pack("<8f", *scaled), queued=0.001)
        finally:
            self._running -= 1

    async def abort_answer(self, request_id: str, index: int) -> None:
        self.aborted.add((request_id, index))

    async def block_map(self) -> BlockMap:
        return BlockMap(16, [2, 1, 0, 0], [True, False, True, False], [16, 4, 16, 0], {"a/0": [0, 1], "a/1": [0]})

    def problem(self) -> str | None:
        if self._failure.done():
            return self._failure.result()
        return "the engine has not answered for 9 s" if self._hung else None

    async def wait_failed(self) -> str:
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        pass


def _prompt_logprobs(prompt: list[int], top: int | None) -> list[TokenLogprobs] | None:
    """Where they are asked for, the same for each token behind the first."""
    if top is None:
        return None
    return [entry for token in prompt[1:] for entry in _logprobs(token, top) or ()]


def _logprobs(token: int, top: int | None) -> list[TokenLogprobs] | None:
    """Where they are asked for: this token is the likeliest with 1/2, words from 1000 on follow with 1/4, 1/8, ..."""
    if top is None:
        return None
    scores = [-(place + 1) * math.log(2) for place in range(max(top, 1))]
    tokens = [token, *(1000 + place for place in range(1, top))]
    return [TokenLogprobs([token, *tokens[:top]], [scores[0], *scores[:top]], [1, *range(1, top + 1)])]
