"""What holds for every test: which examples are drawn, which signals children start with, and which tests stay together
where several processes share them out."""

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

# A shell starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For pytest-xdist: the tests of a file share servers, and those of a folder their cluster. These come first, for
    they take longest."""
    items.sort(key=lambda item: item.get_closest_marker("cluster") is None)
    for item in items:
        together = item.path.parent if item.get_closest_marker("cluster") else item.path
        item.add_marker(pytest.mark.xdist_group(str(together)))
