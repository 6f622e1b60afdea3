"""Server-sent events (html.spec.whatwg.org, section 9.2), read from a response's bytes."""

from collections.abc import AsyncGenerator, AsyncIterable


async def event_data(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event, as soon as it is whole; what a lost connection left half is dropped. Lines are split as
    bytes: as text they would also break at U+2028, which JSON may hold."""
    rest = b""
    data: list[bytes] = []
    async for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True)
        # A lone \r at the end may be half of \r\n.
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            content = line.rstrip(b"\r\n")
            if content.startswith(b"data:"):
                data.append(content.removeprefix(b"data:").removeprefix(b" "))
            elif not content and data:
                yield b"\n".join(data)
                data.clear()
