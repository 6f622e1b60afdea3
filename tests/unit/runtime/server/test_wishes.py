"""Wishes are taken out of a request at any depth, and noted where they ask for something."""

import pytest

from octavo_runtime.server.fields.nulls import without_nulls
from octavo_runtime.server.generation.wishes import Wish, set_aside, without_server_tools
from octavo_runtime.server.http.record import RequestRecord, begin_request

WISHES = {
    "hurry": Wish("all are in a hurry", ("no", False)),
    "text.tone": Wish("there is one tone"),
    "tools.*.parts.*.later": Wish("it is now", (False,)),
}


@pytest.fixture
def record():
    record = RequestRecord()
    begin_request(record)
    return record


@pytest.fixture
def strict():
    begin_request(RequestRecord(strict=True))


def test_wishes_are_taken_out_at_any_depth_and_named_once(record):
    fields = {
        "model": "m",
        "hurry": "yes",
        "text": {"tone": "kind", "format": {}},
        "tools": [{"parts": [{"later": True, "name": "a"}, {"later": True}]}, {"parts": []}, "odd", {}],
    }
    expected = {
        "model": "m",
        "text": {"format": {}},
        "tools": [{"parts": [{"name": "a"}, {}]}, {"parts": []}, "odd", {}],
    }
    before = repr(fields)
    assert set_aside(fields, WISHES) == expected
    assert repr(fields) == before
    assert record.ignored == ["hurry", "text.tone", "tools.*.parts.*.later"]


@pytest.mark.parametrize("value", ["no", False, None])
def test_a_value_that_asks_for_nothing_is_not_worth_a_word(record, value):
    assert set_aside({"hurry": value, "text": {}, "tools": None}, WISHES) == {"text": {}, "tools": None}
    assert record.ignored == []


def test_zero_is_not_false(record):
    set_aside({"hurry": 0}, WISHES)
    assert record.ignored == ["hurry"]


@pytest.mark.usefixtures("strict")
def test_a_strict_server_names_place_reason_and_what_to_send():
    with pytest.raises(
        ValueError, match=r'^hurry: not supported; all are in a hurry; .* send "no" or false, got \'yes\''
    ):
        set_aside({"hurry": "yes"}, WISHES)
    with pytest.raises(ValueError, match=r"^tools\.1\.parts\.0\.later: not supported"):
        set_aside({"tools": [{}, {"parts": [{"later": True}]}]}, WISHES)
    assert set_aside({"hurry": "no"}, WISHES) == {}


def test_tools_of_servers_leave_a_hole_so_that_places_stay(record):
    fields = {"tools": [{"type": "search_2"}, {"type": "function"}, 5, {"type": None}]}
    assert without_server_tools(fields, ("search_",)) == {"tools": [None, {"type": "function"}, 5, {"type": None}]}
    assert record.ignored == ["tools.0"]
    assert without_server_tools({"tools": "odd"}, ("search_",)) == {"tools": "odd"}


def test_nulls_go_but_where_they_are_values():
    value = {"a": None, "b": [{"c": None, "d": 0}], "input": {"e": None}, "f": [None]}
    assert without_nulls(value, frozenset({"input"})) == {"b": [{"d": 0}], "input": {"e": None}, "f": [None]}
