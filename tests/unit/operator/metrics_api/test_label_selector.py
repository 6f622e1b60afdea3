"""Label selectors of requests."""

import pytest

from octavo_operator.metrics_api.label_selector import parse

LABELS = {"serving.octavo.dev/service": "chat", "tier": "gold"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("serving.octavo.dev/service=chat", True),
        ("serving.octavo.dev/service==chat,tier=gold", True),
        ("serving.octavo.dev/service=other", False),
        ("tier!=gold", False),
        ("absent!=gold", True),
        ("tier in (gold, silver)", True),
        ("tier in (silver),serving.octavo.dev/service=chat", False),
        ("tier notin (gold,silver)", False),
        ("absent notin (gold)", True),
        ("tier", True),
        ("!tier", False),
        ("absent", False),
        ("!absent", True),
    ],
)
def test_labels_are_selected(text: str, selected: bool) -> None:
    assert parse(text)(LABELS) is selected


@pytest.mark.parametrize("text", ["tier in gold", "a=b=c", "=a", "a,,b"])
def test_what_is_no_selector_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="labelSelector must be such as app=chat"):
        parse(text)
