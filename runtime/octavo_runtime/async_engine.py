"""Text in, answers out as they grow: the engine in a process of its own, for programs that run in asyncio."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo_runtime.config.keywords import engine_config
from octavo_runtime.engine_process.client import EngineClient, EngineFailure
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.pooling import Pooling
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.text.answers import Answers, RequestFailed, RequestOutput, request_exception
from octavo_runtime.text.prompt import Prompt, prompt_ids
from octavo_runtime.text.sampling_defaults import load_sampling_defaults
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer, resolve_params
from octavo_runtime.text.tokenizer_conversion import tokenizer_files


class AsyncEngine:
    """A model in an engine process, shared by many tasks of one asyncio loop; made by `AsyncEngine.start`. Answers
    without parameters of their own are sampled with `default_params`.

    async with await AsyncEngine.start("builtin://smollm2") as engine:
        async for output in engine.generate("Once upon a time", SamplingParams(max_tokens=40)):
            print(output.outputs[0].text)"""

    def __init__(self, client: EngineClient, tokenizer: Tokenizer, default_params: SamplingParams) -> None:
        self.client = client
        self.tokenizer = tokenizer
        self.default_params = default_params

    @classmethod
    async def start(cls, model: str, **config: Any) -> "AsyncEngine":
        """Loads the model. Keyword arguments are EngineConfig's fields, by vLLM's names too. Raises ValueError, which
        names a bad one, and EngineFailure."""
        settings = engine_config(model, **config)
        files = await asyncio.to_thread(locate, model)
        text = await asyncio.to_thread(tokenizer_files, settings, files)
        defaults = SamplingParams(**load_sampling_defaults(settings, files))
        client = EngineClient()
        try:
            local = settings.model_copy(update={"model": str(files.gguf or files.folder)})
            tokenizer, _ = await asyncio.gather(asyncio.to_thread(load_tokenizer, text), client.start(local))
        except BaseException:
            await client.stop()
            raise
        return cls(client, tokenizer, defaults)

    async def generate(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams | None = None,
        request_id: str | None = None,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """The answers to one prompt, as they stand after each new token (arguments: see messages.Add). Closing the
        generator early aborts the request. Raises InvalidParameter, RequestFailed or EngineFailure."""
        name = request_id or uuid.uuid4().hex
        resolved = resolve_params(sampling_params or self.default_params, self.tokenizer)
        text = prompt if isinstance(prompt, str) else None
        tokens = prompt_ids(prompt, self.tokenizer)
        if self.client.ready is not None:
            tokens = resolved.truncate(tokens, self.client.ready.max_model_len)
        answers = Answers(self.tokenizer, resolved)
        outputs = self.client.generate(
            name, tokens, resolved, priority=priority, cache_salt=cache_salt, timeout=timeout
        )
        async with aclosing(outputs):
            async for output in outputs:
                if output.error is not None:
                    raise request_exception(output.error)
                delta = answers.add(output)
                if delta is None:
                    continue
                if delta.stopped:
                    await self.client.abort_answer(name, delta.index)
                yield answers.request_output(name, text, tokens)

    async def embed(
        self,
        prompt: Prompt,
        pooling: Pooling = "mean",
        normalize: bool = True,
        request_id: str | None = None,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> npt.NDArray[np.float32]:
        """The embedding of one prompt, [hidden_size] (see PoolingParams; other arguments: see messages.Add). Cancelling
        it aborts the request. Raises as generate does."""
        output = await self.client.embed(
            request_id or uuid.uuid4().hex,
            prompt_ids(prompt, self.tokenizer),
            PoolingParams(pooling=pooling, normalize=normalize),
            priority=priority,
            cache_salt=cache_salt,
            timeout=timeout,
        )
        if output.error is not None:
            raise request_exception(output.error)
        assert output.embedding is not None
        return np.frombuffer(output.embedding, "<f4").astype(np.float32)

    async def stop(self) -> None:
        """Ends the engine process."""
        await self.client.stop()

    async def __aenter__(self) -> "AsyncEngine":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


__all__ = ["AsyncEngine", "EngineFailure", "RequestFailed"]
