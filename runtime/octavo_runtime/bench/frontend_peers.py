"""What `octavo bench frontend` compares with: servers that stream ready-made text, with no engine behind them.

    python -m octavo_runtime.bench.frontend_peers PORT

/fastapi answers by FastAPI's own StreamingResponse and the json module, as a first version of such a server would;
/asgi/ by ASGI itself and msgspec, the least that Python can do for an event. The body is {"max_tokens": N}."""

import json
import sys
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from octavo_runtime.bench.token_source import WORD
from octavo_runtime.server.http.encoding import encode
from octavo_runtime.server.openai.chunks import ChatChunkChoice, ChatCompletionChunk, ChatDelta

PATHS = {"FastAPI StreamingResponse": "/fastapi", "bare ASGI with msgspec": "/asgi/"}

_CHUNK = ChatCompletionChunk(
    id="chatcmpl-0",
    created=0,
    model="model",
    choices=[ChatChunkChoice(index=0, delta=ChatDelta(content=WORD))],
    system_fingerprint="none",
)


def make_app() -> FastAPI:
    """Both routes."""
    app = FastAPI()

    @app.post("/fastapi")
    async def fastapi(request: Request) -> StreamingResponse:
        count = (await request.json())["max_tokens"]
        return StreamingResponse(_events(count, msgspec.to_builtins(_CHUNK)), media_type="text/event-stream")

    async def asgi(_scope: Scope, receive: Receive, send: Send) -> None:
        count = msgspec.json.decode((await receive())["body"])["max_tokens"]
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(count):
            body = b"data: " + encode(_CHUNK) + b"\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    app.mount("/asgi", asgi)
    return app


async def _events(count: int, chunk: dict[str, Any]) -> AsyncGenerator[str, None]:
    for _ in range(count):
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


if __name__ == "__main__":
    uvicorn.run(make_app(), port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="error", access_log=False)
