"""A process that compiles a grammar before the engine does, within a limit of memory and time.

llguidance bounds its own work, but not everywhere: a few hundred bytes can make it ask for gigabytes or overflow its
stack, and both end the whole process. Here that process is an expendable one."""

import math
import resource
import signal
import subprocess
import sys
from typing import IO

import msgspec
from llguidance import LLTokenizer

from octavo_runtime.protocol.reason import as_text
from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.structured.compiler import Vocabulary, build_tokenizer, compile_matcher, grammar_text, refusal

MAX_CPU_SECONDS = 1
MAX_MEMORY = 512 << 20  # bytes of address space
MAX_STACK = 1 << 20  # bytes: less than any thread of the engine has


class Verdict(msgspec.Struct, frozen=True):
    """What came of one source: llguidance's form of it, or why not."""

    grammar: str = ""
    field: str = ""
    reason: str = ""


_VERDICTS, _VOCABULARIES = msgspec.json.Decoder(Verdict), msgspec.json.Decoder(Vocabulary)
_SOURCES = msgspec.json.Decoder(StructuredOutput)


class GrammarTrial:
    """One trial process, started by its first use and again after a death. For one thread at a time."""

    def __init__(self, vocabulary: Vocabulary, *, cpu_seconds: int = MAX_CPU_SECONDS, memory: int = MAX_MEMORY) -> None:
        self._vocabulary = vocabulary
        self._limits = [str(cpu_seconds), str(memory)]
        self._process: subprocess.Popen[bytes] | None = None

    def compile(self, structured: StructuredOutput) -> str:
        """llguidance's form of `structured`, known to compile; InvalidParameter when it does not, or not in bounds.
        OSError when no process starts."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, structured)
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            process.communicate()
            self._process = None
            cpu_seconds, memory = self._limits
            room = f"{int(memory) >> 20} MiB of memory and {MAX_STACK >> 20} MiB of stack"
            bound = f"{cpu_seconds} s" if process.returncode == -signal.SIGXCPU else room
            raise refusal(structured, f"is too complex: must compile in {bound}")
        verdict = _VERDICTS.decode(answer)
        if verdict.field:
            raise InvalidParameter(verdict.field, verdict.reason)
        return verdict.grammar

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *self._limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        _send(self._process.stdin, self._vocabulary)
        return self._process


def main(cpu_seconds: int, memory: int) -> None:
    """Answers each StructuredOutput on stdin with a Verdict; the first line is the Vocabulary."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_STACK, (MAX_STACK, MAX_STACK))
    tokenizer = build_tokenizer(_VOCABULARIES.decode(sys.stdin.buffer.readline()))
    for line in sys.stdin.buffer:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        _send(sys.stdout.buffer, _try(tokenizer, _SOURCES.decode(line)))


def _try(tokenizer: LLTokenizer, structured: StructuredOutput) -> Verdict:
    try:
        text = grammar_text(structured)
        compile_matcher(tokenizer, structured, text)
    except InvalidParameter as error:
        return Verdict(field=error.field, reason=as_text(error.reason))
    return Verdict(grammar=text)


def _send(stream: IO[bytes], message: msgspec.Struct) -> None:
    stream.write(msgspec.json.encode(message) + b"\n")
    stream.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
