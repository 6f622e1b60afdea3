"""Files that are made from the models are what the models say."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from octavo_operator.generate import chart_values
from octavo_operator.generate.__main__ import generated_files

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("name", sorted(generated_files()))
def test_file_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == generated_files()[name], "run `make generate`"


def test_values_hold_to_their_schema() -> None:
    values = yaml.safe_load(chart_values.values_yaml())
    jsonschema.validate(values, chart_values.values_schema())
    assert chart_values.Values.model_validate(values) == chart_values.Values()


@pytest.mark.parametrize("bad", [{"replicas": 9}, {"resync": "soon"}, {"crds": {"enabled": "yes"}}])
def test_wrong_values_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, chart_values.values_schema())
