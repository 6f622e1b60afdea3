"""How layers are cut into groups that share block tables, and what sequences hold of them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequences import BLOCK, make_scheduler, make_sequence, run_step

from octavo_runtime.models.layer_groups import cache_places, layer_groups, layers_of_a_block, most_entries
from octavo_runtime.models.stages import stage_of
from octavo_runtime.planning.known_models import find_spec

PLAIN = find_spec("SmolLM2-135M")


@pytest.mark.parametrize(
    ("model", "sizes", "windows"),
    [
        ("SmolLM2-135M", [30], [None]),
        ("mistralai/Mistral-7B-v0.1", [32], [4096]),
        ("mistralai/Mistral-7B-v0.3", [32], [None]),
        ("google/gemma-2-9b", [21, 21], [None, 4096]),
        ("google/gemma-3-12b-it", [8] * 6, [None, *[1024] * 5]),
        ("google/gemma-3-27b-it", [10, *[9] * 5, 7], [None, *[1024] * 6]),
        ("openai/gpt-oss-20b", [12, 12], [None, 128]),
        ("microsoft/Phi-3-mini-4k-instruct", [32], [2047]),
    ],
)
def test_layers_of_one_kind_share_groups_of_one_size(model, sizes, windows):
    spec = find_spec(model)
    groups = layer_groups(spec)
    assert [len(group.layers) for group in groups] == sizes
    assert [group.window for group in groups] == windows
    assert layers_of_a_block(spec) == sizes[0]


@given(layers=st.integers(1, 100), data=st.data())
def test_each_layer_has_a_place_of_its_own_in_a_group_of_its_kind(layers, data):
    windowed = data.draw(st.frozensets(st.integers(0, layers - 1)))
    spec = replace(PLAIN, num_layers=layers, window=32, windowed_layers=windowed)
    groups, places = layer_groups(spec), cache_places(spec)
    assert len(set(places)) == layers
    assert len(groups) <= 8
    for layer, place in enumerate(places):
        assert groups[place.group].window == spec.window_of(layer)
        assert 0 <= place.layer < layers_of_a_block(spec)


@given(layers=st.integers(1, 100), data=st.data())
def test_a_stage_has_the_groups_of_the_whole_model(layers, data):
    """One table names a sequence's blocks to all stages."""
    windowed = data.draw(st.frozensets(st.integers(0, layers - 1)))
    spec = replace(PLAIN, num_layers=layers, window=32, windowed_layers=windowed)
    first = data.draw(st.integers(0, layers - 1))
    own = range(first, data.draw(st.integers(first + 1, layers)))
    stage = stage_of(spec, own)
    groups, places = layer_groups(stage), cache_places(stage)
    assert [group.window for group in groups] == [group.window for group in layer_groups(spec)]
    assert len(set(places)) == len(own)
    assert [groups[place.group].window for place in places] == [spec.window_of(layer) for layer in own]
    assert max(place.layer for place in places) < layers_of_a_block(stage) <= layers_of_a_block(spec)


@given(
    window=st.integers(1, 5 * BLOCK),
    prompt=st.integers(1, 12 * BLOCK),
    more=st.integers(1, 3 * BLOCK),
    budget=st.integers(1, 4 * BLOCK),
)
def test_no_sequence_holds_more_than_is_reckoned(window, prompt, more, budget):
    """And in the end exactly what its last token sees."""
    scheduler = make_scheduler(blocks=1000, budget=budget, windows=(None, window))
    sequence = make_sequence(0, prompt, max_tokens=more + 1)
    scheduler.add(sequence)
    for _ in iter(lambda: sequence.known < prompt + more, False):
        run_step(scheduler)
        sliding = sequence.tables[1]
        assert len(sliding.blocks) <= most_entries(window, BLOCK, sequence.known, budget)
        assert sliding.first <= max(sequence.computed - window + 1, 0) // BLOCK < sliding.end + 1
    assert len(sliding.blocks) <= most_entries(window, BLOCK, sequence.known, 1) + 1
