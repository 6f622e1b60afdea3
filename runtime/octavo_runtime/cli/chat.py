"""`octavo chat`: a conversation in the terminal, with a model loaded here or with any OpenAI-compatible server."""

import asyncio
import contextlib
import io
import signal
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

from octavo_runtime.client import endpoint
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine_process.client import EngineClient, EngineFailure, EngineRefused
from octavo_runtime.models.loading.files import default_name, locate
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams
from octavo_runtime.text.chat_template import load_chat_template
from octavo_runtime.text.detokenizer import Detokenizer
from octavo_runtime.text.tokenizer import load_tokenizer

Conversation = list[dict[str, str]]
Answer = Callable[[Conversation], AsyncGenerator[str, None]]
"""From a conversation to the pieces of the next message."""

_HELP = "/reset forgets the conversation, /exit or Ctrl-D ends, Ctrl-C stops an answer"


class ChatFailure(RuntimeError):
    """The conversation cannot go on. One line for a person."""


def chat(model: str, base_url: str, api_key: str) -> int:
    """Talks until /exit or the end of the input; the exit code, 1 where the conversation breaks off. ValueError for
    what the user can mend, such as a model that cannot be served. `model`: what to load, or with `base_url` the name to
    ask for (its first model if empty). `base_url`: without a path it is /v1's server. `api_key`: for a server that asks
    for one. Without a terminal it reads lines and writes plain text."""
    if not model and not base_url:
        raise ValueError("chat needs a model such as builtin://smollm2, or --base-url")
    if base_url:
        endpoint.checked_key(api_key)
        server = endpoint.base_url(base_url, "--base-url", "http://localhost:8000/v1")
        if not urlsplit(server).path:
            base_url = f"{server}/v1"
    # A shell starts what runs in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    backend = _server(model, base_url, api_key) if base_url else _local(model)
    try:
        asyncio.run(_converse(backend))
    except EngineRefused:
        raise
    except (ChatFailure, EngineFailure) as failure:
        print(f"octavo: {failure}", file=sys.stderr)
        return 1
    return 0


async def _converse(backend: contextlib.AbstractAsyncContextManager[tuple[str, Answer]]) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # models write what many a locale's encoding has not
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, soft_wrap=True)
    terminal = sys.stdin.isatty() and console.is_terminal
    conversation: Conversation = []
    waiting = console.status("loading the model") if terminal else contextlib.nullcontext()
    async with contextlib.AsyncExitStack() as stack:
        with waiting:
            name, answer = await stack.enter_async_context(backend)
        if terminal:
            console.print(f"[bold]{escape(name)}[/bold]  [dim]{_HELP}[/dim]")
        while (text := await asyncio.to_thread(_read_line, terminal)) is not None:
            if text == "/exit":
                return
            if text == "/reset":
                conversation.clear()
            elif text:
                conversation.append({"role": "user", "content": text})
                try:
                    said = await _stream(answer(conversation), console)
                except InvalidParameter as refused:
                    conversation.pop()
                    print(f"octavo: {refused}", file=sys.stderr)
                else:
                    conversation.append({"role": "assistant", "content": said})


async def _stream(pieces: AsyncGenerator[str, None], console: Console) -> str:
    """Prints an answer as it comes; Ctrl-C ends it early. What was said."""
    said: list[str] = []

    def write(text: str) -> None:
        # Not rich's own, which ends the process in the midst of its tasks where nobody reads any more.
        console.file.write(text)
        console.file.flush()

    async def show() -> None:
        async with aclosing(pieces):
            async for piece in pieces:
                said.append(piece)
                write(piece)

    showing = asyncio.create_task(show())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, showing.cancel)
    try:
        await showing
    except asyncio.CancelledError:
        write(" ...")
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        write("\n")
    return "".join(said)


def _read_line(terminal: bool) -> str | None:
    """The next line; None at the end of the input."""
    try:
        return input("\n> " if terminal else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None


@asynccontextmanager
async def _local(model: str) -> AsyncIterator[tuple[str, Answer]]:
    """A model in an engine process of this command's own."""
    files = locate(model)
    engine = EngineClient()
    try:
        tokenizer, template, ready = await asyncio.gather(
            asyncio.to_thread(load_tokenizer, files),
            asyncio.to_thread(load_chat_template, files),
            engine.start(EngineConfig(model=model, max_num_seqs=1)),
        )

        async def answer(conversation: Conversation) -> AsyncGenerator[str, None]:
            prompt = template.encode(conversation, tokenizer)
            if len(prompt) >= ready.max_model_len:
                raise InvalidParameter(
                    "messages",
                    f"must have at most {ready.max_model_len - 1} tokens together, got {len(prompt)}; use /reset",
                )
            detokenizer = Detokenizer(tokenizer)
            async with aclosing(engine.generate(uuid.uuid4().hex, prompt, SamplingParams(temperature=0.0))) as outputs:
                async for output in outputs:
                    if output.error:
                        raise ChatFailure(output.error.message)
                    yield detokenizer.add(
                        output.token_ids,
                        finished=output.finish_reason is not None,
                        stopped_by_token=output.finish_reason == "stop",
                    )

        yield default_name(model), answer
    finally:
        await engine.stop()


@asynccontextmanager
async def _server(model: str, base_url: str, api_key: str) -> AsyncIterator[tuple[str, Answer]]:
    """Any OpenAI-compatible server."""
    import openai  # takes 0.7 s to import, which a local model need not pay

    try:
        asking = openai.AsyncOpenAI(base_url=base_url, api_key=api_key or "none")
    except Exception as error:  # of the HTTP client below, such as for a name that its IDNA does not know
        raise ValueError(f"--base-url: {error}, got {base_url!r}") from None
    async with asking as client:
        try:
            name = model or (await client.models.list()).data[0].id
        except openai.OpenAIError as error:
            raise ChatFailure(_reason(base_url, error)) from None
        except (IndexError, TypeError):
            raise ChatFailure(f"{base_url} names no model; name one") from None

        async def answer(conversation: Conversation) -> AsyncGenerator[str, None]:
            messages: list[openai.types.chat.ChatCompletionMessageParam] = [*conversation]  # type: ignore[list-item]
            try:
                async with await client.chat.completions.create(model=name, messages=messages, stream=True) as chunks:
                    async for chunk in chunks:
                        if chunk.choices and chunk.choices[0].delta.content:
                            yield chunk.choices[0].delta.content
            except openai.BadRequestError as error:
                raise InvalidParameter("messages", f"cannot be answered: {_reason(base_url, error)}") from None
            except openai.OpenAIError as error:
                raise ChatFailure(_reason(base_url, error)) from None

        yield name, answer


def _reason(base_url: str, error: Exception) -> str:
    """What the SDK's error says, in one line that begins with the server's name."""
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    told = body.get("message") if isinstance(body, dict) else None
    text = " ".join(str(told or error).split())
    if status is None:
        what = f"cannot be reached: {error.__cause__}" if error.__cause__ else f"failed: {text}"
        return f"{base_url} {what}"
    hint = ""
    if status == 401:
        hint = "; give its key with --api-key or OPENAI_API_KEY"
    elif status == 404 and not base_url.rstrip("/").endswith("/v1"):
        hint = "; --base-url must be the API's address, which ends in /v1 on most servers"
    return f"{base_url} refused with HTTP {status}: {text:.500}{hint}"
