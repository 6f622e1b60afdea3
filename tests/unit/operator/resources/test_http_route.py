"""The HTTPRoute: a host name of a Gateway that leads to the Service."""

from built import built

HOST = {"name": "public", "hostname": "chat.example.com"}


def test_every_path_of_the_host_leads_to_the_port_of_the_service_and_no_answer_is_cut() -> None:
    spec = built("HTTPRoute", endpoint={"gateway": HOST, "port": 8080})["spec"]
    assert spec["hostnames"] == ["chat.example.com"]
    assert [(each["kind"], each["name"]) for each in spec["parentRefs"]] == [("Gateway", "public")]
    (rule,) = spec["rules"]
    assert [(each["kind"], each["name"], each["port"]) for each in rule["backendRefs"]] == [("Service", "chat", 8080)]
    assert rule["timeouts"] == {"request": "0s"}


def test_gateway_of_another_namespace_and_listener() -> None:
    said = HOST | {"namespace": "gateways", "sectionName": "https", "annotations": {"example.com/a": "b"}}
    route = built("HTTPRoute", endpoint={"gateway": said})
    (parent,) = route["spec"]["parentRefs"]
    assert (parent["namespace"], parent["sectionName"]) == ("gateways", "https")
    assert route["metadata"]["annotations"] == {"example.com/a": "b"}
