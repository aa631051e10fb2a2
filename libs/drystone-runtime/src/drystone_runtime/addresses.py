# SPDX-License-Identifier: Apache-2.0
"""Network addresses as people write them: where something listens, whom something calls."""

import ipaddress

UNIX = "unix:"
_BY_NAME = "dns:///"


def host_port(value: object) -> str:
    """`HOST:PORT`, `[V6]:PORT` or `:PORT` (all interfaces); port 0 = a free one."""
    host, colon, port = str(value).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError(f"{value!r} is not HOST:PORT (e.g. 127.0.0.1:9000, [::1]:9000, :9000)")
    return f"{host or '0.0.0.0'}:{port}"


def split_host_port(value: str) -> tuple[str, int]:
    """The parts of a checked `host_port`."""
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def rpc_address(value: object) -> str:
    """Where gRPC listens: `unix:/path` or `HOST:PORT`; empty = the default."""
    text = str(value)
    return text if not text or _is_path(text) else host_port(text)


def rpc_target(value: object) -> str:
    """Whom gRPC calls: `unix:/path`, `HOST:PORT` (all addresses of the name), or `IP:PORT,IP:PORT …` of one family."""
    text = str(value)
    if _is_path(text):
        return text
    parts = [host_port(part.strip()) for part in text.removeprefix(_BY_NAME).split(",")]
    if len(parts) > 1:
        try:
            families = {ipaddress.ip_address(split_host_port(part)[0]).version for part in parts}
        except ValueError:
            raise ValueError(f"{text!r}: several targets are IP addresses; or give one name that means all") from None
        if len(families) > 1:
            raise ValueError(f"{text!r}: several targets are all of IPv4 or all of IPv6")
    return ",".join(parts)


def split_targets(target: str) -> list[tuple[str, int]]:
    """The hosts and ports of a checked `rpc_target`; none for a unix socket."""
    if target.startswith(UNIX):
        return []
    return [split_host_port(part) for part in target.removeprefix(_BY_NAME).split(",")]


def is_loopback(host: str) -> bool:
    """Can only this machine reach that host?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_path(text: str) -> bool:
    if not text.startswith(UNIX):
        return False
    if not text.startswith(f"{UNIX}/"):
        raise ValueError(f"{text!r} is not unix:/absolute/path")
    return True
