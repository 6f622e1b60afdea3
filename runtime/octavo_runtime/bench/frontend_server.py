"""`octavo serve` with the token source in the place of the engine; the arguments are serve's."""

import sys

import typer

from octavo_runtime.bench import token_source
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.options import with_options
from octavo_runtime.config.server import ServerConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@with_options(EngineConfig, ServerConfig)
def serve(engine: EngineConfig, server: ServerConfig) -> int:
    """Serve a model's name and tokenizer, and tokens from the source."""
    from octavo_runtime.server.serve import serve as run

    return run(engine, server, engine_program=token_source.__name__)


if __name__ == "__main__":
    sys.exit(app(standalone_mode=False))
