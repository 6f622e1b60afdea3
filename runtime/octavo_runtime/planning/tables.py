"""`octavo plan`'s report as tables for a terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from octavo_runtime.config.flags import engine_flags
from octavo_runtime.planning.advice import USUAL_LENGTH, Advice
from octavo_runtime.planning.limits import token_budget
from octavo_runtime.planning.memory import MemoryPlan
from octavo_runtime.planning.parameters import element_size
from octavo_runtime.planning.report import Report
from octavo_runtime.planning.roofline import Cost
from octavo_runtime.planning.ways import FOUR_BITS, Way, cheapest


def print_report(report: Report) -> None:
    """Writes the report to stdout."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(report.model)}[/bold] on {_place(report)}\n")
    console.print(_memory(report))
    if report.memory.kv_bytes_per_token:
        console.print(_capacities(report))
        console.print(_difference(report))
    console.print(_verdict(report))
    if report.remedies:
        console.print(_advice("Any one of these makes it fit", report.remedies))
    if report.ways:
        console.print(_ways(report.ways))
        console.print(_cheapest(report.ways))
    if report.recommendation:
        console.print(
            _advice(f"For {report.workload}, requests of {report.capacities[0].length:,} tokens", report.recommendation)
        )
        if report.command:
            console.print(f"{escape(report.command)}\n", soft_wrap=True)
        else:
            console.print("With what the engine supports today it does not fit this GPU.\n")
    if report.prefill_costs:
        console.print(_costs("Least time of a prompt", report.prefill_costs, prefill=True))
    if report.decode_costs:
        console.print(_costs("Least time of a decode step", report.decode_costs, prefill=False))


def _place(report: Report) -> str:
    return "a CPU" if report.config.device == "cpu" else escape(report.gpu.name)


def _memory(report: Report) -> Table:
    plan, config = report.memory, report.config
    on_gpu = config.device != "cpu"
    element = element_size(config)
    table = _table("Memory", "", "GB", "GiB", "how")
    each = "" if config.num_ranks == 1 else f", each of {config.num_ranks} devices"
    _size(table, "device", plan.device_memory, ("all of it" if on_gpu else "what the server may use") + each)
    if on_gpu:
        _size(table, "to use", plan.budget, f"gpu_memory_utilization {config.gpu_memory_utilization:g}")
    _size(table, "weights", -plan.weight_bytes, f"{_parameters(plan)} x {element} bytes{_beside(report)}")
    _size(table, "context", -plan.context_bytes, "driver and CUDA context" if on_gpu else "the server's processes")
    if on_gpu:
        tokens = f"{token_budget(config, 'cuda')} tokens"
        _size(table, "activations", -plan.activation_bytes, f"temporary tensors of a step of {tokens}")
        _size(table, "graphs", -plan.graph_bytes, "captured CUDA graphs")
    if not plan.kv_bytes_per_token:
        table.add_section()
        table.add_row("KV cache", "", "", "none: an encoder keeps nothing of a text")
        return table
    _size(table, "KV cache", plan.kv_cache_bytes, "as set" if config.kv_cache_memory else _rest(on_gpu), bold=True)
    swap = "host memory for preempted requests" if on_gpu else "blocks of preempted requests"
    _size(table, "swap", plan.swap_bytes, f"{swap}, {'at most ' if on_gpu else ''}{plan.num_host_blocks:,} blocks")
    table.add_section()
    groups = len(plan.windows)
    of_each = f"{plan.block_bytes:,} bytes each" + (f", in {groups} groups of layers" if groups > 1 else "")
    table.add_row("KV of a token", "", "", f"{plan.kv_bytes_per_token:,} bytes")
    table.add_row("blocks", "", "", f"{plan.num_blocks:,} of {plan.block_size} tokens, {of_each}")
    window = plan.windows[-1]
    more = "" if window is None else f"; a sequence holds its last {window:,} in layers with a window"
    table.add_row("[bold]tokens[/bold]", "", "", f"[bold]{plan.num_tokens:,}[/bold] in the KV cache{more}")
    return table


def _parameters(plan: MemoryPlan) -> str:
    active = f" ({plan.active_parameters:,} for each token)" if plan.active_parameters != plan.parameters else ""
    return f"{plan.parameters:,} parameters{active}"


def _beside(report: Report) -> str:
    """What is held beside the weights themselves, or less than them."""
    plan, ranks = report.memory, report.config.num_ranks
    if ranks > 1:
        return f", a share of which each of {ranks} devices holds"
    more = plan.weight_bytes - plan.parameters * element_size(report.config)
    if more < 0:
        return f", {-more / 1e9:.2f} GB less for weights in fewer bits"
    return f", and {more / 1e9:.2f} GB packed, in another order or in float32" if more >= 10**7 else ""


def _rest(on_gpu: bool) -> str:
    return "what is left" if on_gpu else "1 GiB, or a quarter of what is left"


def _size(table: Table, name: str, size: int, how: str, *, bold: bool = False) -> None:
    cells = [name, f"{size / 1e9:.2f}", f"{size / 2**30:.2f}", how]
    table.add_row(*(f"[bold]{cell}[/bold]" if bold else cell for cell in cells))


def _capacities(report: Report) -> Table:
    table = _table("Sequences at once", "tokens each", "fit", "before reserves", "", right=3)
    for capacity in report.capacities:
        table.add_row(f"{capacity.length:,}", f"[bold]{capacity.sequences:,}[/bold]", f"{capacity.before_reserves:,}")
    return table


def _difference(report: Report) -> str:
    plan, most = report.memory, report.config.max_num_seqs
    reserves = plan.reserves
    words = "Before reserves: memory to use, less weights, over the KV of one sequence. What fits is reckoned "
    words += f"after {reserves / 1e9:.2f} GB for context, activations and graphs, in whole blocks."
    return f"{words} A step computes at most max_num_seqs ({most}) of them.\n"


def _verdict(report: Report) -> str:
    plan = report.memory
    if plan.problem is None:
        return f"[bold green]Fits[/bold green]: requests of up to {plan.max_model_len:,} tokens.\n"
    return f"[bold red]Does not fit[/bold red]: {escape(plan.problem)}\n"


def _advice(title: str, rows: Sequence[Advice]) -> Table:
    table = _table(title, "setting", "value", "why", right=0)
    for row in rows:
        refused = "" if row.supported else "[yellow]refused today:[/yellow] "
        table.add_row(row.setting, f"[bold]{escape(row.value)}[/bold]", refused + escape(row.why))
    return table


def _ways(found: Sequence[Way]) -> Table:
    table = _table("How few GPUs hold it", "weights", "GPUs", "GB each", "tokens", "ms at best", "to set")
    for way in found:
        time = "" if way.seconds is None else f"{way.seconds * 1e3:.1f}"
        settings = " ".join(engine_flags(dict(way.settings))) or "-"
        numbers = (f"{way.devices}", f"{way.plan.weight_bytes / 1e9:.1f}", f"{way.plan.num_tokens:,}", time)
        table.add_row(way.weights, *numbers, escape(settings))
    return table


def _cheapest(found: Sequence[Way]) -> str:
    best, why = cheapest(found)
    words = f"[bold]Fewest GPUs[/bold]: {best.weights}, {best.devices}: {why}."
    if any(way.weights == FOUR_BITS for way in found):
        words += " 4 bits: an AWQ or GPTQ checkpoint, or what octavo quantize writes."
    words += f" Tokens: of KV cache, at least {USUAL_LENGTH:,}."
    return f"{words} At best: one request, from token to token, at the memory's speed.\n"


def _costs(title: str, costs: Sequence[Cost], *, prefill: bool) -> Table:
    first = ["prompt tokens"] if prefill else ["context", "sequences"]
    table = _table(title, *first, "compute ms", "memory ms", "bound by", "tokens/s", right=6)
    for cost in costs:
        named = [cost.tokens] if prefill else [cost.context, cost.sequences]
        times = [f"{cost.compute_seconds * 1e3:.2f}", f"{cost.memory_seconds * 1e3:.2f}"]
        table.add_row(*(f"{number:,}" for number in named), *times, cost.bound, f"{cost.tokens_per_second:,.0f}")
    return table


def _table(title: str, *columns: str, right: int = -1) -> Table:
    """`right`: how many columns, from the left, hold numbers; -1 for all but the first and the last."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = index < right if right >= 0 else 0 < index < len(columns) - 1
        table.add_column(column, justify="right" if numeric else "left", no_wrap=index + 1 < len(columns))
    return table
