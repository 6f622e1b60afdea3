"""The `octavo` command. Each sub-command imports what it needs when it runs."""

import sys
from typing import Annotated

import typer

from octavo_runtime.config import EngineConfig, ServerConfig
from octavo_runtime.options import with_options

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
bench = typer.Typer(no_args_is_help=True, help="Measure the engine on this machine.")
app.add_typer(bench, name="bench")


@app.command()
@with_options(EngineConfig, ServerConfig)
def serve(engine: EngineConfig, server: ServerConfig) -> int:
    """Serve a model behind an OpenAI-compatible HTTP API."""
    from octavo_runtime.server.serve import serve as run

    return run(engine, server)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="Model to load here, or to ask for at --base-url.")] = "",
    base_url: Annotated[str, typer.Option(help="Talk to a server instead, such as http://localhost:8000/v1.")] = "",
) -> int:
    """Talk to a model in the terminal."""
    from octavo_runtime.chat import chat as run

    return run(model, base_url)


@app.command()
def prepare(model: Annotated[str, typer.Argument(help="A model in GGUF form, such as builtin://smollm2.")]) -> int:
    """Convert a GGUF model's tokenizer once and store it beside the file, so that serving starts faster."""
    from octavo_runtime.model.files import locate
    from octavo_runtime.tokenizer_conversion import prepare as run

    run(locate(model))
    return 0


@bench.command()
def concurrency(
    model: Annotated[str, typer.Argument(help="Model to measure.")] = "builtin://smollm2",
    requests: Annotated[int, typer.Option(min=2, max=1024, help="Requests at once.")] = 16,
    tokens: Annotated[int, typer.Option(min=1, max=4096, help="Tokens to generate for each.")] = 64,
    dtype: Annotated[str, typer.Option(help="Type of weights and KV cache.")] = "auto",
) -> int:
    """One request's time beside that of many at once, and transformers' generate on the same prompts one by one."""
    from octavo_runtime.bench.concurrency import run

    run(model, requests, tokens, dtype)
    return 0


def main() -> None:
    """Runs a sub-command. What the user can mend ends as one line and exit code 2, never as a stack trace."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as leave:
        code = leave.exit_code
    except typer.Abort:
        code = 130
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own errors: unknown option, missing argument
            code = _refuse(error.format_message())
        elif isinstance(error, ValueError):
            code = _refuse(str(error))
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> int:
    print(f"octavo: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
