"""From what was found to what the terminal shows. Pure; 80 columns do."""

from collections import Counter
from collections.abc import Sequence
from textwrap import indent

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from octavo_operator.commands.checklist import Item
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load, duration

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "unknown": "magenta"}
_SEVERITIES = {"critical": "bold red", "warning": "yellow"}


def findings(evidence: Evidence, load: Load | None, found: Sequence[Finding]) -> RenderableType:
    """What `octavo why` shows."""
    parts: list[RenderableType] = [_title(evidence), *map(Text, figures(evidence, load))]
    for finding in found:
        style = _SEVERITIES[finding.severity]
        parts.append(Text())
        parts.append(
            Text.assemble((finding.severity, style), "  ", (finding.rule, "bold"), f"  {_plain(finding.summary)}")
        )
        parts += [Padding(Text(f"- {_plain(each)}"), (0, 0, 0, 2)) for each in finding.evidence]
        parts.append(Padding(Text(_plain(finding.advice)), (0, 0, 0, 2)))
        if finding.patch:
            parts.append(Text(indent(finding.patch.rstrip(), "    "), "cyan"))
        parts.append(Padding(Text(finding.more, "dim"), (0, 0, 0, 2)))
    if not found:
        parts += [Text(), _nothing(evidence)]
    return Group(*parts, *_unread(evidence))


def figures(evidence: Evidence, load: Load | None) -> list[str]:
    """The numbers by which a service is judged, in lines."""
    lines = [f"{len(evidence.ready)} of {evidence.wanted} pods answer"]
    if load is None:
        return [f"{lines[0]}; no pod told its metrics"]
    lines[0] += f"; over {load.seconds:.0f} s {load.requests:.1f} requests/s"
    lines[0] += f", {load.generated_tokens:.0f} tokens/s, {load.running} run, {load.waiting} wait"
    hits = "-" if load.hit_rate_ever is None else f"{load.hit_rate_ever:.0%}"
    gpu = "" if load.gpu is None else f", GPUs {load.gpu:.0%}"
    lines.append(f"KV cache {load.kv_usage:.0%} full, prefix hits {hits}{gpu}, {load.preemptions:.1f} preemptions/s")
    if load.whole_answer.p99 is not None:
        first, whole = load.first_token, load.whole_answer
        lines.append(
            f"first token p50 {duration(first.p50)}, p99 {duration(first.p99)}; "
            f"whole answer p50 {duration(whole.p50)}, p99 {duration(whole.p99)}"
        )
    return lines


def checklist(evidence: Evidence, items: Sequence[Item]) -> RenderableType:
    """What `octavo check` shows."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("item", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("evidence, and what to do", overflow="fold")
    section = ""
    for item in items:
        told = Text(_plain(item.outcome.evidence))
        if item.outcome.fix:
            told.append(f"\n-> {_plain(item.outcome.fix)}", "cyan")
        if item.section != section:
            section = item.section
            table.add_row(Text(section, "bold cyan"))
        table.add_row(f"  {item.name}", Text(item.verdict, _STYLES[item.verdict]), told)
    counts = Counter[str](item.verdict for item in items)
    summary = Text(", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES if counts[verdict]), "bold")
    return Group(_title(evidence), Text(), table, Text(), summary)


def _title(evidence: Evidence) -> Text:
    ready = evidence.condition("Ready")
    title = Text.assemble((f"{evidence.namespace}/{evidence.name}", "bold"), "  ")
    if not ready:
        return title.append("not looked at yet", "yellow")
    title.append("Ready" if ready["status"] == "True" else "not Ready", "green" if ready["status"] == "True" else "red")
    return title.append(f"  {ready['reason']}", "dim")


def _nothing(evidence: Evidence) -> Text:
    """That nothing was found; of a service that is not ready also what goes on."""
    ready = evidence.condition("Ready")
    if not ready or ready["status"] == "True":
        return Text("Nothing is wrong.", "green")
    return Text(f"Nothing is wrong so far: {_plain(ready['message'])}", "yellow")


def _unread(evidence: Evidence) -> list[RenderableType]:
    """What was not read, and so not judged. A kind that the cluster lacks is none of it."""
    if not evidence.unread:
        return []
    lines = [Text(f"  {what}: {_plain(why)}", "magenta") for what, why in sorted(evidence.unread.items())]
    return [Text(), Text("Not read, so not judged:", "magenta"), *lines]


def _plain(text: str) -> str:
    """Text of a cluster without what would steer the terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
