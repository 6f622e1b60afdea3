"""What `octavo models` lists."""

import json

from typer.testing import CliRunner

from octavo_runtime.cli.app import app
from octavo_runtime.models.families import FAMILIES


def test_every_family_is_listed_for_programs_and_for_people():
    found = json.loads(CliRunner().invoke(app, ["models", "-o", "json"]).stdout)
    assert {row["architecture"] for row in found} >= FAMILIES.keys()
    gemma = next(row for row in found if row["architecture"] == "Gemma3ForConditionalGeneration")
    assert gemma == {
        "architecture": "Gemma3ForConditionalGeneration",
        "model_type": "gemma3",
        "gguf": "gemma3",
        "quantised": "weights, cache",
        "kind": "dense",
        "models": "Gemma 3, its text",
        "text_of_pictures": True,
    }
    table = CliRunner().invoke(app, ["models"]).stdout.splitlines()
    assert len(table) == len(found) + 1
    assert next(line for line in table if line.startswith("GPT2")).split() == [
        "GPT2LMHeadModel",
        "gpt2",
        "gpt2",
        "weights,",
        "cache",
        "dense",
        "GPT-2",
    ]


def test_it_says_what_is_served_in_fewer_bits():
    found = json.loads(CliRunner().invoke(app, ["models", "-o", "json"]).stdout)
    by_kind = {row["kind"]: row["quantised"] for row in found}
    assert by_kind == {
        "dense": "weights, cache",
        "experts": "weights, cache",
        "latent": "weights",
        "encoder": None,
    }
