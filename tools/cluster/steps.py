"""Steps that say what they do and how long they took, alone or side by side."""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


class StepFailed(Exception):
    """Why a step failed (`reason`, with the last log lines where there are any) and what to do (`advice`)."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


@contextmanager
def step(title: str, *, expect: str = "") -> Iterator[None]:
    """Print `title` and the seconds that the block took; `expect` announces a slow step before it starts."""
    if expect:
        say(f"  ....... {title} ({expect})")
    start = time.monotonic()
    yield
    say(f"  {time.monotonic() - start:6.1f}s {title}")


def say(line: str) -> None:
    """Progress goes to standard error: standard output carries results only (JSON, kubeconfig)."""
    print(line, file=sys.stderr, flush=True)


def side_by_side(*jobs: Callable[[], object]) -> None:
    """Run independent jobs at once; wait for all of them, then raise the first failure."""
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        for future in [pool.submit(job) for job in jobs]:
            future.result()


def wait_until(condition: Callable[[], bool], seconds: float, on_timeout: Callable[[], StepFailed]) -> None:
    """Poll `condition` every 0.2 s.

    Raises:
        StepFailed: what `on_timeout` returns, when `seconds` have passed.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise on_timeout()
        time.sleep(0.2)
