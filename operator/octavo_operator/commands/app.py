"""What the `octavo` command has of the operator's: it finds them by the entry points `octavo.commands`. Each imports
what it needs when it runs, so that `octavo --help` does without the Kubernetes client."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

Result = TypeVar("Result")
Service = Annotated[str, typer.Argument(help="Name of the LLMService.", show_default=False)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; the context's if unset.")]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig; the current one if unset.")]
Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="For people, or for programs.")]
ApiKey = Annotated[
    str, typer.Option(envvar="OPENAI_API_KEY", help="Key of the service; others see it in the process list.")
]


def why(
    service: Service,
    namespace: Namespace = "",
    context: Context = "",
    seconds: Annotated[str, typer.Option("--for", help="How long to watch the load, from 1s to 10m.")] = "10s",
    output: Output = "table",
    api_key: ApiKey = "",
) -> int:
    """Say what is wrong with an LLMService now, with the evidence and the change to make. Ends with exit code 0 where
    nothing is wrong, 1 where something is, and 2 where the cluster cannot be asked."""

    def run() -> int:
        from octavo_operator.commands import gather, report, rules, session, view
        from octavo_operator.commands.load import load

        watched = session.window(seconds)
        evidence = session.with_cluster(
            context, namespace, lambda cluster, place: gather.gather(cluster, place, service, watched, api_key=api_key)
        )
        found, now = rules.findings(evidence), load(evidence.samples)
        if output == "json":
            print(json.dumps(report.findings(evidence, now, found), indent=2))
        else:
            _print(view.findings(evidence, now, found))
        return 1 if found else 0

    return _with_client("why", run)


def check(
    service: Service,
    namespace: Namespace = "",
    context: Context = "",
    output: Output = "table",
    api_key: ApiKey = "",
) -> int:
    """Go through the checklist of a deployment: performance, monitoring, availability, security, tests, documents.
    Sends eight small requests at most. Ends with exit code 0 where no item fails, 1 where one does, and 2 where the
    cluster cannot be asked."""

    def run() -> int:
        from octavo_operator.cluster import Connection
        from octavo_operator.commands import checklist, gather, report, session, trial, view
        from octavo_operator.commands.evidence import Evidence

        async def look(cluster: Connection, place: str) -> tuple[Evidence, trial.Trial]:
            evidence = await gather.gather(cluster, place, service, 0, surroundings=True, api_key=api_key)
            https = bool(evidence.body["spec"].get("endpoint", {}).get("tlsSecret"))
            return evidence, await trial.hold(cluster, place, service, https=https, api_key=api_key)

        evidence, tried = session.with_cluster(context, namespace, look)
        items = checklist.items(evidence, tried)
        if output == "json":
            print(json.dumps(report.checklist(evidence, items), indent=2))
        else:
            _print(view.checklist(evidence, items))
        return 1 if any(item.verdict == "fail" for item in items) else 0

    return _with_client("check", run)


def bundle(
    service: Service,
    namespace: Namespace = "",
    context: Context = "",
    file: Annotated[str, typer.Option(help="Archive to write; octavo-bundle-...tar.gz here if unset.")] = "",
    api_key: ApiKey = "",
) -> int:
    """Write all that is known of an LLMService into an archive for support, without secrets: spec, status, what it
    owns, events, logs, metrics, the operator's logs. Look through it before you hand it on."""

    def run() -> int:
        from octavo_operator.cluster import Connection
        from octavo_operator.commands import bundle as archive
        from octavo_operator.commands import gather, session
        from octavo_operator.commands.evidence import Evidence

        async def look(cluster: Connection, place: str) -> tuple[Evidence, dict[str, str]]:
            evidence = await gather.gather(
                cluster, place, service, 2, surroundings=True, api_key=api_key, log_lines=archive.LOG_LINES
            )
            return evidence, await archive.collect(cluster, evidence, api_key)

        evidence, files = session.with_cluster(context, namespace, look)
        path = Path(file or archive.name(evidence.body, evidence.now.strftime("%Y%m%dT%H%M%SZ")))
        try:
            archive.write(path, files, evidence.now.timestamp())
        except OSError as error:
            raise ValueError(f"--file: cannot write {path}: {error.strerror}") from None
        print(f"{path}: {len(files)} files; look through them before you hand them on")
        for what, reason in sorted(json.loads(files["about.json"])["unread"].items()):
            print(f"octavo: not read: {what}: {reason}", file=sys.stderr)
        return 0

    return _with_client("bundle", run)


def _print(shown: object) -> None:
    from rich.console import Console

    Console(highlight=False).print(shown)


def _with_client(command: str, run: Callable[[], Result]) -> Result:
    """A pod of a service has this package and not what it imports."""
    try:
        return run()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("octavo_"):
            raise
        package = (error.name or "").partition(".")[0]
        raise ValueError(f"octavo {command} needs {package}: pip install 'octavo[cluster]'") from None
