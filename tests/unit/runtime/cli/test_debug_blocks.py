"""The block map in the terminal."""

import http.server
import io
import subprocess
import sys
import threading

import msgspec
import pytest
from patience import PATIENCE
from rich.console import Console

from octavo_runtime.cli.debug_blocks import fetch, show
from octavo_runtime.protocol.messages import BlockMap

MAP = BlockMap(
    block_size=16,
    references=[2, 2, 1, 1, 1, 0, 12] + [0] * 393,
    cached=[True, False, True] + [False] * 2 + [True] + [False] * 394,
    filled=[16, 5, 16, 8, 1, 16, 16] + [0] * 393,
    tables={f"{index:032x}/0": [0, 2, 3] for index in range(11)},
)


def drawn(blocks: BlockMap, *, colour: bool = False) -> str:
    out = io.StringIO()
    show(blocks, Console(file=out, width=80, force_terminal=colour, color_system="standard" if colour else None))
    return out.getvalue()


def test_each_block_is_one_cell_and_its_sign_says_what_it_is():
    lines = drawn(MAP).splitlines()
    assert lines[0] == "400 blocks of 16 tokens: 6 used, 1 cached, 393 free"
    assert lines[1] == "fragmentation 35.4% (34 of 96 held slots)"
    [first] = [line for line in lines if line.startswith("      0  ")]
    assert first == "      0  22█▄▁░+" + "·" * 57
    assert "     64  (336 free blocks)" in lines
    assert lines[-1] == "and 3 sequences more"


def test_states_differ_in_colour_too():
    pieces = [piece.partition("m") for piece in drawn(MAP, colour=True).split("\x1b[")]
    colours = {sign[0]: code for code, _, sign in pieces if sign and sign[0] in "·░█+"}
    assert len(set(colours.values())) == 4


def test_it_fits_80_columns():
    long = msgspec.structs.replace(MAP, tables={"a" * 100 + "/63": list(range(400))}, references=[1] * 400)
    for blocks in (MAP, long):
        assert max(map(len, drawn(blocks).splitlines())) <= 80


def test_a_table_shows_how_full_its_last_block_is():
    assert any(line.rstrip().endswith("/0    0 2 3(8/16)") for line in drawn(MAP).splitlines())


def test_an_empty_cache_has_no_fragmentation():
    empty = BlockMap(16, [0] * 100, [False] * 100, [0] * 100, {})
    assert "fragmentation 0.0% (0 of 0 held slots)" in drawn(empty)


def test_it_is_fetched_from_a_server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(msgspec.json.encode(MAP))

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert fetch(url) == fetch(f"{url}/v1") == MAP
        assert asked == ["/debug/blocks"] * 2
        server.shutdown()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://127.0.0.1", "nonsense"])
def test_no_server_is_one_line_and_exit_code_2(url, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    command = [sys.executable, "-m", "octavo_runtime", "debug", "blocks", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert url in done.stderr
