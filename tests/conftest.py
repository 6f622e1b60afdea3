"""What holds for every test: its place in the queue, which examples are drawn, which signals children start with."""

import os
import signal

import pytest

try:
    from hypothesis import settings
except ModuleNotFoundError:  # a GPU machine brings little more than torch and pytest
    pass
else:
    # The same examples at each run; the long runs draw new ones.
    settings.register_profile("soak", deadline=None)
    settings.load_profile("soak" if os.environ.get("OCTAVO_SOAK") else "ci")

# As many processes as there are CPUs wait for each other's threads at the end of every small loop. Children inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, and the longest of all before them: no process is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name != "test_exactness.py", item.path not in slow))
