"""A trace of what the CPU and the GPU do during a measurement, and the kernels' shares of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from octavo_runtime.config.user_path import user_path


@contextmanager
def profiled(folder: str | None, name: str) -> Iterator[None]:
    """Writes FOLDER/NAME.json.gz, a trace for Perfetto or chrome://tracing, and FOLDER/NAME.txt, the time of each
    kernel and call; nothing without a folder. Figures measured within are slower than without."""
    if folder is None:
        yield
        return
    from torch.profiler import ProfilerActivity, profile

    into = user_path(folder)
    into.mkdir(parents=True, exist_ok=True)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        yield
    recorded.export_chrome_trace(str(into / f"{name}.json.gz"))
    averages = recorded.key_averages()
    order = "self_cuda_time_total" if any(one.self_device_time_total for one in averages) else "self_cpu_time_total"
    (into / f"{name}.txt").write_text(averages.table(sort_by=order, row_limit=60, max_name_column_width=90))
