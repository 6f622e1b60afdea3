"""The Grafana dashboard of a service alone."""

import json

from built import built, service

from octavo_operator.resources import dashboard


def test_it_is_held_fast_to_the_service() -> None:
    config = built("ConfigMap", observability={"dashboard": True})
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    (content,) = config["data"].values()
    variables = {item["name"]: item for item in json.loads(content)["templating"]["list"]}
    assert (variables["namespace"]["type"], variables["namespace"]["query"]) == ("constant", "default")
    assert (variables["llmservice"]["type"], variables["llmservice"]["query"]) == ("constant", "chat")
    assert variables["datasource"]["type"] == "datasource"


def test_each_has_a_name_of_its_own() -> None:
    one, other = dashboard.dashboard(service()), dashboard.dashboard(service("code"))
    assert (one["title"], other["title"]) == ("Octavo / default / chat", "Octavo / default / code")
    assert one["uid"] != "octavo-service"
    assert one["panels"] == other["panels"]
