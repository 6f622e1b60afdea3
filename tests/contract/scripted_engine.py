"""A stand-in for EngineClient that answers from a script, and does odd things when the prompt asks for them."""

import asyncio
from collections.abc import AsyncGenerator

from octavo_runtime.config import EngineConfig
from octavo_runtime.engine_client import EngineFailure
from octavo_runtime.messages import Load, Output, Ready
from octavo_runtime.model.files import locate
from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.tokenizer import load_tokenizer

ANSWER = "The capital of France is Paris. It lies on the Seine, in the north of the country; voilà ✨."
MAX_MODEL_LEN = 2048


class ScriptedEngine:
    """Gives ANSWER and the end-of-sequence token, one token a step. Words in the prompt change that:
    [slow] 20 ms a token, over and over; [error] fails this request after 2 tokens; [refuse] before any;
    [die] ends the engine after 2 tokens; [hang] makes the engine look hung."""

    def __init__(self) -> None:
        self.ready: Ready | None = None
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
        self.ready = Ready(MAX_MODEL_LEN, 49152, 16, 1000, "script", "float32", 1, 0.1)
        if config.seed == 14:
            await asyncio.sleep(3600)
        return self.ready

    async def generate(
        self, request_id: str, prompt: list[int], params: SamplingParams
    ) -> AsyncGenerator[Output, None]:
        wish = self._tokenizer.decode(prompt)
        script = self._tokenizer.encode(ANSWER, add_special_tokens=False)
        script = script * 100 if "[slow]" in wish else [*script, self._tokenizer.eos_token_ids[0]]
        limit = params.max_tokens or MAX_MODEL_LEN - len(prompt)
        self._hung = self._hung or "[hang]" in wish
        self._running += 1
        try:
            for count, token in enumerate(script, start=1):
                await asyncio.sleep(0.02 if "[slow]" in wish else 0)
                if "[refuse]" in wish or ("[error]" in wish and count > 2):
                    yield Output(request_id, [], "error", "the script says so")
                    return
                if "[die]" in wish and count > 2 and not self._failure.done():
                    self._failure.set_result("the script says that the engine died")
                if self._failure.done():
                    raise EngineFailure(self._failure.result())
                last = token in self._tokenizer.eos_token_ids and not params.ignore_eos
                if last or count == limit:
                    yield Output(request_id, [token], "stop" if last else "length")
                    return
                yield Output(request_id, [token])
        finally:
            self._running -= 1

    def problem(self) -> str | None:
        if self._failure.done():
            return self._failure.result()
        return "the engine has not answered for 9 s" if self._hung else None

    async def wait_failed(self) -> str:
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        pass
