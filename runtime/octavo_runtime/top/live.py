"""The loop of `octavo top`: looks at a server now and then, and shows what it sees."""

import signal
import sys
import time
from collections import deque
from contextlib import nullcontext
from typing import NoReturn

import httpx
from rich.console import Console
from rich.live import Live

from octavo_runtime.client.endpoint import base_url, checked_key
from octavo_runtime.top.figures import figures
from octavo_runtime.top.sample import NoSample, Sample, take
from octavo_runtime.top.view import lost, view

_TIMEOUT_SECONDS = 5.0
# Rates and latencies cover this much: a second alone would flicker.
_WINDOW_SECONDS = 5.0


def run(url: str, api_key: str, interval: float, once: bool) -> int:
    """Shows the server at `url` until Ctrl-C, one look every `interval` seconds; with `once` a single view of one
    interval. The exit code: 1 where `once` finds no server. ValueError, in one line, for what is out of bounds."""
    address = base_url(url, "url")
    if not 0.2 <= interval <= 60:
        raise ValueError(f"interval: must be from 0.2 to 60, got {interval}")
    headers = {"Authorization": f"Bearer {checked_key(api_key)}"} if api_key else {}
    console = Console(highlight=False)
    # A shell starts what runs in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with httpx.Client(headers=headers, timeout=_TIMEOUT_SECONDS) as http:
            if once:
                return _once(http, address, interval, console)
            _watch(http, address, interval, console)
    except KeyboardInterrupt:
        return 0


def _once(http: httpx.Client, url: str, interval: float, console: Console) -> int:
    try:
        before = take(http, url)
        time.sleep(interval)
        console.print(view(figures(before, take(http, url)), url))
    except NoSample as reason:
        print(f"octavo: {reason}", file=sys.stderr)
        return 1
    return 0


def _watch(http: httpx.Client, url: str, interval: float, console: Console) -> NoReturn:
    screen = Live(console=console, screen=True, auto_refresh=False) if console.is_terminal else None
    with screen or nullcontext():
        samples: deque[Sample] = deque()
        seen = time.monotonic()
        while True:
            try:
                samples.append(take(http, url))
                seen = samples[-1].time
                while len(samples) > 2 and seen - samples[1].time >= _WINDOW_SECONDS:
                    samples.popleft()
                shown = view(figures(samples[0], samples[-1]), url)
            except NoSample as reason:
                shown = lost(str(reason), time.monotonic() - seen)
            if screen:
                screen.update(shown, refresh=True)
            else:
                console.print(shown)
            time.sleep(interval)
