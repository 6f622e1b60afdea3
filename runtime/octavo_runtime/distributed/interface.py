"""Which network the ranks of a model meet on. Free of torch."""

import ipaddress
import os
import socket

import psutil


def use_network_of(address: str) -> None:
    """Has gloo and NCCL of this process and those that it starts use the network interface of one of this machine's
    addresses, where the environment names none."""
    name = _interface(address)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if name != "lo":  # within a machine NCCL needs no network
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def is_own(address: str) -> bool:
    """Whether it is an address of this machine."""
    return _interface(address) is not None or ipaddress.ip_address(address).is_loopback


def _interface(address: str) -> str | None:
    for name, links in psutil.net_if_addrs().items():
        if any(link.address.partition("%")[0] == address for link in links):
            return name
    return None


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens on an address of this machine; port 0 takes a free one. Raises OSError."""
    return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
