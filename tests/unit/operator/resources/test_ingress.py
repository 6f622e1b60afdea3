"""The Ingress: a host name that leads to the Service."""

from built import built

HOST = {"host": "chat.example.com"}


def test_every_path_of_the_host_leads_to_the_port_of_the_service() -> None:
    ingress = built("Ingress", endpoint={"ingress": HOST, "port": 8080})
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"], path["pathType"]) == ("chat.example.com", "/", "Prefix")
    backend = path["backend"]["service"]
    (port,) = built("Service", endpoint={"port": 8080})["spec"]["ports"]
    assert (backend["name"], backend["port"]) == ("chat", {"name": port["name"]})
    assert ingress["spec"].keys() == {"rules"}, "class and certificate are as the controller has them"


def test_class_certificate_and_annotations_are_as_asked_for() -> None:
    slow = {"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600"}
    said = HOST | {"className": "nginx", "tlsSecret": {"name": "cert"}, "annotations": slow}
    ingress = built("Ingress", endpoint={"ingress": said})
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["chat.example.com"], "secretName": "cert"}]
    assert ingress["metadata"]["annotations"] == slow
