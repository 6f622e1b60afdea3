"""Whatever a client sends within or outside of the published schema, no answer is a 5xx. A seeded slice:
test_server_soak.py sends many more."""

import pytest
from schema_cases import KINDS, operations, send_cases

pytestmark = pytest.mark.slow

EXAMPLES = 30


@pytest.mark.parametrize(("path", "mode"), KINDS)
def test_no_request_makes_a_server_error(scripted, path, mode):
    statuses = send_cases(operations(scripted.url)[path], mode, EXAMPLES, number=1)
    assert sum(statuses.values()) > 0
    assert scripted.process.poll() is None


def test_every_published_route_is_tried(scripted):
    assert set(operations(scripted.url)) == {path for path, _ in KINDS}
