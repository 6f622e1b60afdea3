"""The Restricted Pod Security Standard, held before the API server is asked: a tenant who writes spec.podTemplate gets
no pod that runs as root or reaches into its node, whatever labels the namespace bears, unless the installation allows
it. https://kubernetes.io/docs/concepts/security/pod-security-standards/"""

import json
from collections.abc import Iterator
from typing import Any

from octavo_operator.resources.overlay import merge

Object = dict[str, Any]
Breach = tuple[str, str, Any]  # field of the pod's spec, what it must be, its value

_CONTAINERS = ("containers", "initContainers")
_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
_SELINUX_TYPES = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
# What a container has that says nothing about it.
_HARDENED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def hardened(pod: Object) -> Object:
    """The spec of a pod whose containers may gain no privileges, unless they say otherwise."""
    lists = {
        name: [
            container | {"securityContext": merge(_HARDENED, container.get("securityContext", {}))}
            for container in pod[name]
        ]
        for name in _CONTAINERS
        if name in pod
    }
    return pod | lists


def first_breach(pod: Object) -> str | None:
    """What in the spec of a pod the standard forbids, in words; None where it holds."""
    for field, wanted, value in _breaches(pod):
        return f"{field}: must be {wanted}, got {json.dumps(value)}"
    return None


def _breaches(pod: Object) -> Iterator[Breach]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name, "false", True
    for volume in pod.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volumes[{volume.get('name')}]", f"one of {', '.join(sorted(_VOLUMES))}", kind
    context = pod.get("securityContext", {})
    yield from _of_context(context, "securityContext")
    for sysctl in context.get("sysctls", []):
        if sysctl.get("name") not in _SYSCTLS:
            yield "securityContext.sysctls", f"one of {', '.join(sorted(_SYSCTLS))}", sysctl.get("name")
    for kind in _CONTAINERS:
        for container in pod.get(kind, []):
            yield from _of_container(container, f"{kind}[{container.get('name')}]", context)


def _of_container(container: Object, where: str, of_pod: Object) -> Iterator[Breach]:
    context, field = container.get("securityContext", {}), f"{where}.securityContext"
    yield from _of_context(context, field)
    if context.get("privileged"):
        yield f"{field}.privileged", "false", True
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{field}.allowPrivilegeEscalation", "false", context.get("allowPrivilegeEscalation")
    if context.get("procMount", "Default") != "Default":
        yield f"{field}.procMount", "Default", context["procMount"]
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{field}.capabilities.drop", "[ALL]", capabilities.get("drop")
    if added := [name for name in capabilities.get("add", []) if name != "NET_BIND_SERVICE"]:
        yield f"{field}.capabilities.add", "none but NET_BIND_SERVICE", added[0]
    if (of_pod | context).get("runAsNonRoot") is not True:
        yield f"{field}.runAsNonRoot", "true", (of_pod | context).get("runAsNonRoot")
    if (of_pod | context).get("seccompProfile") is None:
        yield f"{field}.seccompProfile.type", "RuntimeDefault or Localhost", None
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{where}.ports[{port.get('containerPort')}].hostPort", "0", port["hostPort"]
    handlers = [container.get(probe, {}) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += container.get("lifecycle", {}).values()
    for handler in handlers:
        for way in ("httpGet", "tcpSocket"):
            if host := handler.get(way, {}).get("host"):
                yield f"{where}: {way}.host of a probe", "the pod's own", host


def _of_context(context: Object, where: str) -> Iterator[Breach]:
    """What pods and containers may say alike."""
    if context.get("runAsUser") == 0:
        yield f"{where}.runAsUser", "another than root's", 0
    if context.get("runAsNonRoot") is False:
        yield f"{where}.runAsNonRoot", "true", False
    for profile, types in (("seccompProfile", "RuntimeDefault or Localhost"), ("appArmorProfile", "not Unconfined")):
        if context.get(profile, {}).get("type") == "Unconfined":
            yield f"{where}.{profile}.type", types, "Unconfined"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{where}.windowsOptions.hostProcess", "false", True
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") and selinux["type"] not in _SELINUX_TYPES:
        yield f"{where}.seLinuxOptions.type", f"one of {', '.join(sorted(_SELINUX_TYPES))}", selinux["type"]
    for part in ("user", "role"):
        if selinux.get(part):
            yield f"{where}.seLinuxOptions.{part}", "left out", selinux[part]
