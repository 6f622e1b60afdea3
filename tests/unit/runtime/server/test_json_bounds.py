"""The cheap look at a document agrees with a real parser about what it counts."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.server.http import json_bounds
from octavo_runtime.server.http.json_bounds import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_STRING_BYTES,
    MAX_STRINGS,
    broken_bound,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('ab"\\[]{},:\n\u00e9'),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text('k"\\{}[]', max_size=3), inner, max_size=5),
    max_leaves=30,
)


def depth(value):
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


def strings(value):
    if isinstance(value, list):
        return sum(map(strings, value))
    if isinstance(value, dict):
        return len(value) + sum(map(strings, value.values()))
    return int(isinstance(value, str))


@given(VALUES, st.booleans())
def test_counts_are_those_of_a_parser(value, ascii_only):
    document = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert broken_bound(document) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bounds, "MAX_DEPTH", depth(value))
        patch.setattr(json_bounds, "MAX_STRINGS", strings(value))
        assert broken_bound(document) is None
        if depth(value):
            patch.setattr(json_bounds, "MAX_DEPTH", depth(value) - 1)
            assert "nest at most" in broken_bound(document)
        if strings(value):
            patch.setattr(json_bounds, "MAX_STRINGS", strings(value) - 1)
            assert f"got {strings(value)}" in broken_bound(document)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_looked_at(document):
    assert broken_bound(document) is None or document[:4].count(0) or document[:2] in (b"\xff\xfe", b"\xfe\xff")


HOSTILE = {
    "open lists": (b"[" * 10_000_000, "lists and objects"),
    "open lists in few": (b"[" * (MAX_DEPTH + 1), "nest at most"),
    "closed lists": (b"[" * 20_000 + b"]" * 20_000, "nest at most"),
    "lists side by side": (b"[" + b"[]," * 3_000_000 + b"1]", "values"),
    "objects in a list": (b"[" + b"{}," * (MAX_CONTAINERS + 1) + b"1]", "lists and objects"),
    "fields": (b"{" + b",".join(b'"k%07d":1' % i for i in range(1_000_000)) + b"}", "strings"),
    "empty strings": (b"[" + b'"",' * (MAX_STRINGS + 1) + b"1]", "strings"),
    "numbers": (b"[" + b"1," * 5_000_000 + b"1]", "values"),
    "a long string": (b'["' + b"a" * (MAX_STRING_BYTES + 1) + b'"]', "no string of more than"),
    "UTF-16": (json.dumps({"a": 1}).encode("utf-16"), "UTF-8"),
    "UTF-16 without a mark": (json.dumps({"a": 1}).encode("utf-16-le"), "UTF-8"),
    "UTF-32": (json.dumps({"a": 1}).encode("utf-32-be"), "UTF-8"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused_for_little(name):
    document, words = HOSTILE[name]
    began = time.process_time()
    broken = broken_bound(document)
    assert time.process_time() - began < 1, "some 0.05 s"
    assert broken is not None
    assert words in broken


@pytest.mark.parametrize("text", ['\\"' * 4_000_000, "\\\\" * 4_000_000, "[" * 8_000_000, "," * 8_000_000])
def test_what_stands_in_a_string_counts_as_text(text):
    began = time.process_time()
    assert broken_bound(f'{{"prompt": "{text}"}}'.encode()) is None
    assert time.process_time() - began < 1
