"""Log lines: one a record, whatever stands in it."""

import datetime
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.engine_process import process as engine_process
from octavo_runtime.protocol.logs import ConsoleFormatter, JsonLinesFormatter, printable
from octavo_runtime.protocol.messages import Load, Output


def record(message: str, level: int = logging.INFO, error: BaseException | None = None, **extra) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    made = logging.LogRecord("octavo_runtime.a", level, "a.py", 1, message, (), info)
    vars(made).update(extra)
    return made


@given(st.text())
def test_nothing_that_a_terminal_acts_on_is_printed(text):
    assert printable(text).isprintable()


def test_printable_text_stays():
    assert printable("voilà ✨ 字 ~") == "voilà ✨ 字 ~"
    assert printable("a\nb\x1b[31m\u2028\u202e\ud800") == "a\\nb\\x1b[31m\\u2028\\u202e\\ud800"


@given(st.text(), st.text())
def test_a_console_record_is_one_line_and_its_fields_can_be_told_apart(message, value):
    line = ConsoleFormatter().format(record(message, path=value, gone=None))
    assert line.isprintable()
    assert " octavo: " in line
    field = line.rpartition(" path=")[2] if value.isalnum() and value.isascii() else None
    assert field is None or field == value
    assert "gone" not in line


@given(st.text())
def test_an_exception_cannot_forge_a_line(text):
    lines = ConsoleFormatter().format(record("failed", logging.ERROR, ValueError(text))).split("\n")
    assert lines[0].endswith("octavo: error: failed")
    assert all(line.startswith("    ") and line.isprintable() for line in lines[1:])


def test_lines_that_cannot_be_written_are_told_of_once():
    program = """
import logging
from octavo_runtime.protocol import logs
logs.configure("console", "info")
for number in range(3):
    logging.getLogger("octavo_runtime").info("line %s", number)
logging.getLogger("octavo_runtime").warning("still here")
logging.shutdown()
__import__("os")._exit(0)
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    first, second = done.stderr.splitlines()
    assert first == "octavo: log lines are lost: No space left on device"
    assert second.endswith("octavo: warning: still here")


@given(st.text(), st.text())
def test_a_json_record_is_one_object_with_all_of_it(message, value):
    line = JsonLinesFormatter().format(record(message, logging.WARNING, ValueError("why"), path=value, count=3))
    assert line.isascii()
    assert "\n" not in line
    got = json.loads(line)
    assert (got["level"], got["logger"], got["message"]) == ("warning", "octavo_runtime.a", message.strip())
    assert (got["path"], got["count"]) == (value, 3)
    assert got["exception"] == "ValueError: why"
    assert datetime.datetime.fromisoformat(got["time"]).utcoffset() == datetime.timedelta(0)


def test_last_words_stand_alone():
    assert ConsoleFormatter().format(record("no such model", logging.CRITICAL)) == "octavo: no such model"


SCRIPT = """
import logging, os, subprocess, sys
from octavo_runtime.protocol import logs
if len(sys.argv) > 1:
    logs.configure("json", "debug")
    subprocess.run([sys.executable, __file__], check=True)
else:
    logs.configure_child()
    logging.getLogger("octavo_runtime.child").debug("from the child")
    logging.getLogger("library").info("nobody asked")
    logging.getLogger("library").warning("mind this")
"""


def test_a_child_process_logs_as_its_parent_does(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, "parent"], capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == ["from the child"]
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["mind this"]


def test_a_terminal_that_knows_few_characters_is_no_error(tmp_path):
    code = "from octavo_runtime.protocol import logs; import logging; logs.configure('console', 'info')\n"
    code += "logging.getLogger('octavo_runtime').info('voil\\u00e0')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONIOENCODING": "ascii"}
    )
    assert done.stdout.endswith("octavo: voil\\xe0\n")
    assert done.stderr == ""


def test_the_engine_process_logs_its_speed(caplog, monkeypatch):
    monkeypatch.setattr(engine_process, "STATS_SECONDS", 0.0)
    stats = engine_process.Stats()
    with caplog.at_level(logging.INFO, "octavo_runtime"):
        stats.count([], Load(blocks_total=1))
        stats.count([Output("r", [1, 2])], Load(running=1, blocks_used=1, blocks_total=4))
    [line] = caplog.records
    assert line.name == "octavo_runtime.engine_process.process"
    assert "tokens/s, 1 running, 0 waiting, KV cache 25% used" in line.getMessage()


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_levels(level):
    code = f"from octavo_runtime.protocol import logs; import logging; logs.configure('console', {level!r})\n"
    code += (
        "for name in ('debug', 'info', 'warning', 'error'): getattr(logging.getLogger('octavo_runtime'), name)(name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = [line.split()[-1] for line in (done.stdout + done.stderr).splitlines()]
    order = ["debug", "info", "warning", "error"]
    assert shown == order[order.index(level) :]
