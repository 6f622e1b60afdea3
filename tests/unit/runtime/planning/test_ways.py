"""How few GPUs hold a model."""

import json

import pytest
from typer.testing import CliRunner

from octavo_runtime.cli.app import app
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.planning.advice import USUAL_LENGTH
from octavo_runtime.planning.gpus import GPUS
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.planning.memory import plan_memory
from octavo_runtime.planning.ways import MESHES, cheapest, ways

H100 = GPUS["h100-80gb"]


@pytest.mark.parametrize(
    ("model", "gpus", "fewest"),
    [
        ("Llama-3.1-8B", [1, 1, 1], "as stored"),
        ("Llama-3.1-70B", [4, 2, 1], "4 bits"),
        ("Llama-3.1-405B", [16, 8, 4], "4 bits"),
        ("gpt-oss-20b", [1], "as stored"),
    ],
)
def test_each_form_has_the_fewest_gpus_that_hold_it(model: str, gpus: list[int], fewest: str) -> None:
    spec, config = find_spec(model), EngineConfig(model=model)
    found = ways(spec, config, H100)
    assert [way.devices for way in found] == gpus
    best, why = cheapest(found)
    assert best.weights == fewest
    assert why
    for way in found:
        shards = way.settings.get("tensor_parallel_size", 1)
        assert way.devices == shards * way.settings.get("pipeline_parallel_size", 1)
        assert way.plan.room >= USUAL_LENGTH
        assert way.seconds is not None
        if way.weights == "as stored":
            fewer = [mesh for mesh in MESHES if mesh[0] * mesh[1] < way.devices]
            for shards, stages in fewer:
                shared = {"tensor_parallel_size": shards, "pipeline_parallel_size": stages}
                plan = plan_memory(spec, config.model_copy(update=shared), H100.memory)
                assert plan.problem is not None or plan.room < USUAL_LENGTH


@pytest.mark.parametrize("said", [{"tensor_parallel_size": 2}, {"quantization": "fp8"}, {"kv_cache_memory": "1Gi"}])
def test_what_is_said_already_is_not_asked(said: dict[str, object]) -> None:
    config = EngineConfig.model_validate({"model": "m", **said})
    assert ways(find_spec("Llama-3.1-70B"), config, H100) == ()


def test_programs_and_people_are_told() -> None:
    asked = ["plan", "Llama-3.1-405B", "--gpu", "h100-80gb"]
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["ways"]
    assert [way["settings"] for way in told] == [
        {"tensor_parallel_size": 8, "pipeline_parallel_size": 2},
        {"quantization": "fp8", "tensor_parallel_size": 8},
        {"tensor_parallel_size": 4},
    ]
    text = CliRunner().invoke(app, asked).stdout
    assert "--pipeline-parallel-size 2" in text
    assert "Fewest GPUs: 4 bits, 4: in the place of 16." in text.replace("\n", " ")
