"""What a test says of the request that it answers is forgotten after it."""

from collections.abc import Iterator

import pytest

from octavo_runtime.server.http.record import RequestRecord, begin_request


@pytest.fixture(autouse=True)
def _no_request_is_left() -> Iterator[None]:
    yield
    begin_request(RequestRecord())
