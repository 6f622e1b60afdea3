"""The cluster's own links: a bridge that carries the node's address, and the bridge of the pods."""

import json
from pathlib import Path

from commands import run, succeeds

NODE_LINK = "octavo0"
NODE_ADDRESS = "10.255.0.1"
POD_LINK = "octavo-pods"
POD_RANGE = "10.244.0.0/16"
NODE_POD_RANGE = "10.244.0.0/24"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"


def create() -> None:
    """Bring up the node's bridge. The API server advertises its address, since endpoints may not be loopback."""
    if not succeeds(["ip", "link", "show", NODE_LINK]):
        run(["ip", "link", "add", NODE_LINK, "type", "bridge"], advice="needs root and the kernel's bridge module")
    run(["ip", "address", "replace", f"{NODE_ADDRESS}/32", "dev", NODE_LINK])
    run(["ip", "link", "set", NODE_LINK, "up"])


def delete() -> None:
    """Delete both bridges and the pods' links on them."""
    for link in json.loads(run(["ip", "-j", "-d", "link"])):
        if link.get("master") == POD_LINK:
            succeeds(["ip", "link", "delete", link["ifname"]])
    for name in (POD_LINK, NODE_LINK):
        succeeds(["ip", "link", "delete", name])


def url(port: int) -> str:
    """The node's HTTPS address at `port`."""
    return f"https://{NODE_ADDRESS}:{port}"


def resolvers() -> list[str]:
    """Name servers of this machine that pods can reach: those not on a loopback address."""
    files = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
    path = next((file for file in files if file.exists()), None)
    lines = path.read_text().splitlines() if path else []
    addresses = [words[1] for line in lines if (words := line.split())[:1] == ["nameserver"] and len(words) > 1]
    return [address for address in addresses if not address.startswith("127.") and address != "::1"]
