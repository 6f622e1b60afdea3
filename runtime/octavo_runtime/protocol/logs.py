"""Log lines of the server and of its engine process, for people (console) or for programs (JSON, one object a line).

Lines below a warning go to standard output, the others to standard error. Fields that a record brings with `extra=`
stand in a JSON line by their names and on a console line as key=value. Nothing that a client sent can begin a line of
its own or move a terminal's cursor: what cannot be printed is escaped."""

import contextlib
import json
import logging
import os
import re
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any, Literal, TextIO

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered; it stands on each line that is logged meanwhile."""

_VARIABLE = "OCTAVO_LOGS"  # how the processes that the server starts learn its format and level
_STANDARD = frozenset([*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"])
_PLAIN_WORD = re.compile(r"[A-Za-z0-9._:/+@-]+")


def configure(style: LogFormat, level: LogLevel) -> None:
    """Sets up this process' log lines, and those of the processes that it starts. `level` is for Octavo's own lines;
    of libraries only warnings and worse are shown."""
    os.environ[_VARIABLE] = f"{style}:{level}"
    formatter = ConsoleFormatter() if style == "console" else JsonLinesFormatter()
    root = logging.getLogger()
    root.handlers = [_handler(sys.stdout, formatter), _handler(sys.stderr, formatter)]
    root.handlers[0].addFilter(lambda record: record.levelno < logging.WARNING)
    root.handlers[1].setLevel(logging.WARNING)
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.getLogger("octavo_runtime").setLevel(level.upper())
    logging.captureWarnings(True)


def configure_child() -> None:
    """Sets up the log lines of a process that a server may have started: like the server's, else for a console."""
    style, _, level = os.environ.get(_VARIABLE, "console:info").partition(":")
    configure("json" if style == "json" else "console", level)  # type: ignore[arg-type]


def printable(text: str) -> str:
    """`text` on one line, with all that a terminal might act on escaped: control characters, line separators, changes
    of direction, halves of surrogate pairs."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class ConsoleFormatter(logging.Formatter):
    """`12:00:01.250 octavo: message key=value`. A critical record is a command's last words, and stands alone as those
    of every command do: `octavo: message`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and indented ones below it where the record brings an exception."""
        message = printable(record.getMessage().strip())
        if record.levelno >= logging.CRITICAL:
            return f"octavo: {message}"
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        fields = "".join(f" {key}={_word(value)}" for key, value in _extra(record).items())
        line = f"{clock}.{int(record.msecs):03d} octavo: {level}{message}{fields}"
        if record.exc_info is not None and record.exc_info[0] is not None:
            causes = "".join(traceback.format_exception(*record.exc_info)).rstrip().split("\n")
            line += "".join(f"\n    {printable(cause)}" for cause in causes)
        return line


class JsonLinesFormatter(logging.Formatter):
    """{"time": "2026-11-25T12:00:01.250Z", "level": "info", "logger": ..., "message": ..., and the record's fields}"""

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII; an exception is in the field `exception`."""
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{clock}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
            **_extra(record),
        }
        if record.exc_info is not None and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _LineHandler(logging.StreamHandler[TextIO]):
    """Lines that cannot be written, to a full disk or a pipe that nobody reads, are lost: what is logged goes on, and
    standard error hears of it once."""

    _has_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_told:
            self._has_told = True
            with contextlib.suppress(OSError):
                print(f"octavo: log lines are lost: {error.strerror}", file=sys.stderr, flush=True)


def _handler(stream: TextIO, formatter: logging.Formatter) -> logging.Handler:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer characters than there are
    handler = _LineHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(_add_request_id)
    return handler


def _add_request_id(record: logging.LogRecord) -> bool:
    if (current := request_id.get()) is not None:
        record.request_id = current
    return True


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and value is not None}


def _word(value: Any) -> str:
    text = str(value)
    return text if _PLAIN_WORD.fullmatch(text) else json.dumps(text)
