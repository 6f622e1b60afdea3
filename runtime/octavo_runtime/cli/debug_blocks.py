"""`octavo debug blocks`: a server's KV cache as a map in the terminal, one cell a block."""

import math
import urllib.error
import urllib.request
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.text import Text

from octavo_runtime.client.endpoint import base_url, checked_key
from octavo_runtime.protocol.messages import BlockMap

_ROW = 64
_TIMEOUT_SECONDS = 10
_SEQUENCES = 8
_FILLED = " ▁▂▃▄▅▆▇█"
_FREE, _CACHED, _HELD, _SHARED = "bright_black", "blue", "green", "bold magenta"

_BLOCK_MAPS = msgspec.json.Decoder(BlockMap)


def run(url: str, api_key: str) -> int:
    """Draws the block map of the server at `url`. ValueError, in one line, where none answers."""
    show(fetch(url, api_key), Console())
    return 0


def fetch(url: str, api_key: str = "") -> BlockMap:
    """The block map of the server at `url`, such as http://127.0.0.1:8000. Raises ValueError. api_key: where the server
    asks for one."""
    address = base_url(url, "url") + "/debug/blocks"
    headers = {"Authorization": f"Bearer {checked_key(api_key)}"} if api_key else {}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - the scheme is checked
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme is checked
            return _BLOCK_MAPS.decode(answer.read())
    except urllib.error.HTTPError as error:
        raise ValueError(f"url: {address} answered {error.code}: {error.read(500).decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"url: no block map at {address}: {reason}") from None


def show(blocks: BlockMap, console: Console) -> None:
    """Prints the map, what its signs mean, the totals, and the first sequences' block tables; 80 columns do."""
    console.print(_totals(blocks))
    console.print(_legend())
    for line in _rows(blocks):
        console.print(line)
    for name, table in list(blocks.tables.items())[:_SEQUENCES]:
        console.print(_table(name, table, blocks), no_wrap=True, overflow="ellipsis")
    if len(blocks.tables) > _SEQUENCES:
        console.print(f"and {len(blocks.tables) - _SEQUENCES} sequences more", style="dim")


def _totals(blocks: BlockMap) -> Text:
    total, size = len(blocks.references), blocks.block_size
    held = [block for block in range(total) if blocks.references[block]]
    cached = sum(1 for block in range(total) if blocks.cached[block] and not blocks.references[block])
    slots = len(held) * size
    wasted = slots - sum(blocks.filled[block] for block in held)
    return Text(
        f"{total} blocks of {size} tokens: {len(held)} used, {cached} cached, {total - len(held) - cached} free\n"
        f"fragmentation {wasted / max(slots, 1):.1%} ({wasted} of {slots} held slots)"
    )


def _legend() -> Text:
    legend = Text()
    for sign, style, words in (
        ("·", _FREE, "free"),
        ("░", _CACHED, "cached"),
        (_FILLED[1:], _HELD, "held, by how full"),
        ("2-9 +", _SHARED, "shared, by how many"),
    ):
        legend.append(sign, style).append(f" {words}  ")
    return legend.append("\n").append("2", f"{_SHARED} underline").append(" shared, not full")


def _rows(blocks: BlockMap) -> Iterator[Text]:
    """Lines of 64 blocks behind the first one's number; a run of lines of free blocks becomes one line."""
    total, start = len(blocks.references), 0
    while start < total:
        end = start
        while end < total and not any(_occupied(blocks, block) for block in range(end, min(end + _ROW, total))):
            end += _ROW
        if end - start > _ROW:
            yield Text(f"{start:>7}  ({min(end, total) - start} free blocks)", _FREE)
            start = end
            continue
        line = Text(f"{start:>7}  ")
        for block in range(start, min(start + _ROW, total)):
            line.append_text(_cell(blocks, block))
        yield line
        start += _ROW


def _occupied(blocks: BlockMap, block: int) -> bool:
    return blocks.references[block] > 0 or blocks.cached[block]


def _cell(blocks: BlockMap, block: int) -> Text:
    holders, filled = blocks.references[block], blocks.filled[block]
    if holders > 1:
        style = _SHARED if filled == blocks.block_size else f"{_SHARED} underline"
        return Text(str(holders) if holders < 10 else "+", style)
    if holders == 1:
        return Text(_FILLED[max(math.ceil(8 * filled / blocks.block_size), 1)], _HELD)
    return Text("░", _CACHED) if blocks.cached[block] else Text("·", _FREE)


def _table(name: str, table: list[int], blocks: BlockMap) -> Text:
    """A sequence's block table, with the filled slots of the blocks that are not full."""
    line = Text(f"{_short(name):<17}", "bold")
    for block in table:
        filled = blocks.filled[block]
        line.append(f" {block}", _SHARED if blocks.references[block] > 1 else _HELD)
        if filled < blocks.block_size:
            line.append(f"({filled}/{blocks.block_size})", "dim")
    return line


def _short(name: str) -> str:
    """A request id and answer index, cut to 17 characters."""
    request, _, index = name.rpartition("/")
    return f"{request[:12]}/{index}"[:17]
