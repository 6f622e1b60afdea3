"""The `octavo` command. Each sub-command imports what it needs when it runs."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal

import typer

from octavo_runtime.bench.commands import bench
from octavo_runtime.cli.vllm_arguments import spelled
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.options import BadOption, number, with_model_first, with_options
from octavo_runtime.config.server import ServerConfig

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(bench, name="bench")
debug = typer.Typer(no_args_is_help=True, help="Look into a running server.")
app.add_typer(debug, name="debug")

_WIDTH_OF_FILES = "160"  # of tables that no terminal shows, in characters


@app.command()
@with_options(EngineConfig, ServerConfig)
def serve(context: typer.Context, engine: EngineConfig, server: ServerConfig) -> int:
    """Serve a model behind an OpenAI-compatible HTTP API. Takes vLLM's spelling of flags too."""
    from octavo_runtime.protocol import logs
    from octavo_runtime.server.serve import serve as run

    logs.configure(server.log_format, server.log_level)
    for note in context.obj or ():
        logging.getLogger("octavo_runtime").info("%s", note)
    return run(engine, server)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="Model to load here, or to ask for at --base-url.")] = "",
    base_url: Annotated[str, typer.Option(help="Talk to a server instead, such as http://localhost:8000/v1.")] = "",
    api_key: Annotated[
        str, typer.Option(envvar="OPENAI_API_KEY", help="Key for --base-url; others see it in the process list.")
    ] = "",
) -> int:
    """Talk to a model in the terminal."""
    from octavo_runtime.cli.chat import chat as run

    return run(model, base_url, api_key)


@app.command()
def prepare(model: Annotated[str, typer.Argument(help="A model in GGUF form, such as builtin://smollm2.")]) -> int:
    """Convert a GGUF model's tokenizer once and store it beside the file, so that serving starts faster."""
    from octavo_runtime.models.loading.files import locate
    from octavo_runtime.text.tokenizer_conversion import prepare as run

    run(locate(model))
    return 0


@app.command()
def describe(
    model: Annotated[str, typer.Argument(help="builtin://NAME, OWNER/NAME, s3://, oci://, a folder or a .gguf file.")],
    output: Annotated[Path | None, typer.Option(help="File to write to instead of stdout.")] = None,
) -> int:
    """Print what the memory that a model takes depends on, as a line of JSON; of a model that cannot be served, why. No
    weights are read or downloaded."""
    from octavo_runtime.planning.known_models import describe as run

    line = run(model)
    if output is None:
        print(line)
        return 0
    try:
        output.write_text(line)
    except OSError as error:
        raise BadOption(f"output: {output} cannot be written: {error.strerror}") from None
    return 0


@app.command()
def download(
    model: Annotated[
        str,
        typer.Argument(
            help="OWNER/NAME, hf://OWNER/NAME[/FILE.gguf][@REVISION], s3://BUCKET/PREFIX or oci://REGISTRY/NAME:TAG."
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder to keep models in.")],
    result: Annotated[
        Path | None, typer.Option(help="File to write what came of it to, as JSON, with what describe says.")
    ] = None,
    progress_port: Annotated[int | None, number("Port to answer GET /progress on meanwhile.", 1, 65_535)] = None,
) -> int:
    """Download what serving a model needs, verified, and print its folder. What a killed run left is resumed."""
    from octavo_runtime.cli.download import run

    return run(model, to, result, progress_port)


@app.command()
def quantize(
    model: Annotated[str, typer.Argument(help="Folder of safetensors in 16 or 32 bits, OWNER/NAME, s3:// or oci://.")],
    method: Annotated[str, typer.Option(help="awq, gptq, fp8, int8 or squeezellm.")],
    out: Annotated[Path, typer.Option(help="New folder for the model; that of a run that was killed is resumed.")],
    bits: Annotated[int | None, typer.Option(help="Of a weight: 4, of gptq also 8; of fp8 and int8 8.")] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Inputs that share a scale, of awq and gptq; -1: all. 128 if left out.")
    ] = None,
    act_order: Annotated[
        bool, typer.Option("--act-order", help="Of gptq: round the largest inputs' weights first.")
    ] = False,
    fp8_scales: Annotated[
        Literal["channel", "block"] | None, typer.Option(help="Of fp8: a scale for each output, or for 128 by 128.")
    ] = None,
    outliers: Annotated[
        float | None, typer.Option(help="Of squeezellm: share of the weights that are kept apart. 0.0045 if left out.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Text file like what the model will read; else Python's own help texts.")
    ] = None,
    samples: Annotated[int, number("Pieces of the text.", 1, 4096)] = 128,
    sample_tokens: Annotated[int, number("Tokens of each.", 16, 32_768)] = 512,
    gpu: Annotated[str, typer.Option(help="GPU to predict the speed of, as octavo plan names it.")] = "h100-80gb",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
) -> int:
    """Write a model in fewer bits, as published checkpoints of a format are, and say what that cost. One layer is in
    memory at a time; a run that was killed goes on where it ended."""
    from octavo_runtime.quantizer.recipe import make_recipe
    from octavo_runtime.quantizer.run import run

    recipe = make_recipe(
        method,
        bits=bits,
        group_size=group_size,
        act_order=act_order,
        fp8_scales=fp8_scales,
        outliers=outliers,
        samples=samples,
        sample_tokens=sample_tokens,
    )
    return run(model, out, recipe, calibration, gpu, device)


@app.command()
def models(
    output: Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="Form of the list.")] = "table",
) -> int:
    """List the architectures of models that are served, as their config.json names them."""
    from octavo_runtime.models.listing import run

    return run(output)


@app.command()
@with_options(EngineConfig)
def plan(
    model: Annotated[  # noqa: ARG001 - with a help of its own; it arrives in `engine`
        str, typer.Argument(help="Folder with a config.json, .gguf file, builtin://NAME or a known name.")
    ],
    gpu: Annotated[str, typer.Option(help="GPU to plan for, such as h100-80gb.")] = "",
    gpu_memory: Annotated[str, typer.Option(help="Memory of the device instead: 80GB (10^9) or 80GiB (2^30).")] = "",
    lengths: Annotated[str, typer.Option(help="Tokens of a sequence, as in 1024,4096.")] = "",
    workload: Annotated[str, typer.Option(help="Recommend a configuration: throughput or latency.")] = "",
    costs: Annotated[bool, typer.Option("--costs", help="Show compute and memory time of prefill and decode.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    *,
    engine: EngineConfig,
) -> int:
    """Say whether a model fits a GPU, how many sequences with it, and what to set. Needs no GPU. Ends with exit code 0
    where it fits, 1 where it does not, and 2 for a model that cannot be served or a wrong option."""
    from octavo_runtime.planning.report import run

    return run(engine, gpu=gpu, gpu_memory=gpu_memory, lengths=lengths, workload=workload, costs=costs, as_json=as_json)


@app.command()
def nginx(
    backends: Annotated[str, typer.Option(help="The servers, as in 10.0.0.1:8000,10.0.0.2:8000.")],
    listen: Annotated[str, typer.Option(help="PORT or ADDRESS:PORT to listen on.")] = "8080",
    tls_cert: Annotated[str | None, typer.Option(help="Certificate chain in PEM, to listen with TLS.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its private key in PEM.")] = None,
    max_body: Annotated[str, typer.Option(help="Largest body of a request: bytes, or with k, m or g.")] = "16m",
    read_timeout: Annotated[str, typer.Option(help="Longest wait for an answer, or its next piece.")] = "600s",
    state: Annotated[
        str | None, typer.Option(help="Folder for nginx's pid and temporary files; nginx's own if unset.")
    ] = None,
) -> int:
    """Print a configuration of nginx in front of several servers."""
    from octavo_runtime.nginx.configuration import run

    return run(backends, listen, tls_cert, tls_key, max_body, read_timeout, state)


@app.command()
def top(
    url: Annotated[str, typer.Argument(help="Address of the server.")] = "http://127.0.0.1:8000",
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="Key; others see it in the process list.")] = "",
    interval: Annotated[float, typer.Option(help="Seconds between two looks, from 0.2 to 60.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one view of one interval, and end.")] = False,
) -> int:
    """Watch a server's load, speed and latencies in the terminal."""
    from octavo_runtime.top.live import run

    return run(url, api_key, interval, once)


@debug.command()
def blocks(
    url: Annotated[str, typer.Argument(help="Address of the server.")] = "http://127.0.0.1:8000",
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="Key; others see it in the process list.")] = "",
) -> int:
    """Draw the KV cache of a server, block by block."""
    from octavo_runtime.cli.debug_blocks import run

    return run(url, api_key)


def main() -> None:
    """Runs a sub-command. What the user can mend ends as one line and exit code 2, never as a stack trace."""
    _open_streams()
    if not sys.stdout.isatty():
        os.environ.setdefault("COLUMNS", _WIDTH_OF_FILES)
    try:
        _add_commands(sys.argv[1:])
        arguments, notes = _arguments(sys.argv[1:])
        code = app(arguments, standalone_mode=False, obj=notes)
    except typer.Exit as leave:
        code = leave.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own errors: unknown option, missing argument
            message = error.format_message()
            code = _show_help(message) if type(error).__name__ == "NoArgsIsHelpError" else _refuse(message)
        elif isinstance(error, ValueError):
            code = _refuse(str(error))
        elif isinstance(error, OSError) and error.strerror:  # a file's or the system's, such as a full disk
            code = _refuse(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Takes /dev/null for what whoever started this has closed, as `>&-` does; else it is None here, and the next file
    or socket, which is none to print to, has its number in the processes that this one starts."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode)  # noqa: SIM115 - open until the process ends
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)


def _add_commands(given: Sequence[str]) -> None:
    """Takes in the commands that other packages bring, such as those that need Kubernetes: for help, and where the
    command is none of these here. To look for them takes time that `octavo serve` has no use for."""
    own = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    own |= {group.name for group in app.registered_groups}
    if given and given[0] in own:
        return
    for name, point in sorted({point.name: point for point in entry_points(group="octavo.commands")}.items()):
        app.command(name)(point.load())


def _arguments(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line in Octavo's spelling, and lines about flags of vLLM's that need nothing."""
    command, rest = given[:1], given[1:]
    if command == ["serve"]:
        words, notes = spelled(rest)
        return [*command, *words], notes
    if command == ["plan"]:
        return [*command, *with_model_first(rest)], []
    return list(given), []


def _show_help(text: str) -> int:
    """Of a command that was named without the one that it needs behind it."""
    return _end(text)


def _refuse(message: str) -> int:
    return _end(f"octavo: {' '.join(message.split())}")


def _end(text: str) -> int:
    with contextlib.suppress(OSError):  # where nobody can be told, the exit code tells it all the same
        print(text, file=sys.stderr)
    return 2
