"""The process in which chat templates run: `python -m octavo_runtime.text.template_sandbox MEGABYTES CPU_SECONDS`.

A template is a program that came with the model. Jinja's sandbox keeps it from Python's insides, but not from computing
for ever or from filling the memory; a limited process does. Lines on stdin are JSON: first the template, then what to
render each time. Each answer is a line too: first {"variables": [...]}, then {"text": ...}, or {"refusal": ...}."""

import json
import resource
import signal
import sys
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.sandbox

MOST_CHARACTERS = 2**22  # of a rendered conversation


class _TooLong(Exception):
    pass


def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """What transformers offers to chat templates, in Jinja's sandbox."""
    sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    sandbox.filters["tojson"] = _to_json
    sandbox.globals["raise_exception"] = _raise
    sandbox.globals["strftime_now"] = _strftime_now
    return sandbox


def serve(megabytes: int, cpu_seconds: float) -> None:
    """Answers until stdin ends. SIGPROF, or what the kernel does about memory, ends the process at a template that
    needs more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the parent's whole group
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    template: jinja2.Template | None = None
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        if template is None:
            answer, template = _compile(json.loads(line))
        else:
            answer = _render(template, json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if template is None:
            return


def _compile(source: str) -> tuple[dict[str, Any], jinja2.Template | None]:
    sandbox = environment()
    try:
        # Both compute constant expressions, which may be endless as well.
        variables = jinja2.meta.find_undeclared_variables(sandbox.parse(source))
        return {"variables": sorted(variables)}, sandbox.from_string(source)
    except Exception as error:
        return {"refusal": _reason(error)}, None


def _render(template: jinja2.Template, variables: dict[str, Any]) -> dict[str, str]:
    pieces, length = [], 0
    try:
        for piece in template.generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > MOST_CHARACTERS:
                raise _TooLong(f"the text must have at most {MOST_CHARACTERS} characters")
        text = "".join(pieces)
        text.encode()
    except Exception as error:  # whatever a template does is its own fault
        return {"refusal": _reason(error)}
    return {"text": text}


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    return " ".join(f"{error}".split())[:300] or type(error).__name__


class _Generation(jinja2.ext.Extension):
    """Accepts {% generation %}...{% endgeneration %}, with which templates mark the assistant's part for training."""

    tags = {"generation"}  # noqa: RUF012 (the name and type that Jinja defines)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    # Jinja's own filter escapes HTML, which would change the prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
