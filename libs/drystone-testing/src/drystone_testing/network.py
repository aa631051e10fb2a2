# SPDX-License-Identifier: Apache-2.0
"""Hosts on one machine: network namespaces on a bridge of our own, each of which can be cut off and joined again.

Cutting takes the host's end of the cable down: packets vanish in both directions and nobody is told, as when a switch dies.
Needs root and `ip` (iproute2).
"""

import itertools
import os
import shutil
import subprocess

_NUMBERS = itertools.count()


def missing() -> str | None:
    """Why no network can be made here; None when one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return None if shutil.which("ip") else "network namespaces need `ip` (iproute2)"


class Network:
    """A bridge and its hosts; `close()` takes all of it away."""

    def __init__(self) -> None:
        number = next(_NUMBERS)
        self._tag = f"dr{os.getpid() % 100_000}{'abcdefghij'[number % 10]}"
        self._subnet = f"10.{100 + number % 100}.{os.getpid() % 256}"
        self.gateway = f"{self._subnet}.1"
        """The address of this machine's own namespace on the bridge."""
        self.other = f"{self._subnet}.254"
        """A second one, to be cut off from by itself."""
        self._hosts: dict[str, int] = {}
        _ip(f"link add {self._tag} type bridge")
        _ip(f"addr add {self.gateway}/24 dev {self._tag}")
        _ip(f"addr add {self.other}/24 dev {self._tag}")
        _ip(f"link set {self._tag} up")

    def add(self, name: str) -> str:
        """A new host; its address."""
        number = self._hosts[name] = len(self._hosts) + 2
        outer, inner, space = f"{self._tag}{number}", f"{self._tag}{number}i", self._space(name)
        _ip(f"netns add {space}")
        _ip(f"link add {outer} type veth peer name {inner}")
        _ip(f"link set {inner} netns {space}")
        _ip(f"link set {outer} master {self._tag}")
        _ip(f"link set {outer} up")
        _ip(f"-n {space} addr add {self.address(name)}/24 dev {inner}")
        _ip(f"-n {space} link set {inner} up")
        _ip(f"-n {space} link set lo up")
        return self.address(name)

    def address(self, name: str) -> str:
        """Of a host."""
        return f"{self._subnet}.{self._hosts[name]}"

    def command(self, name: str) -> tuple[str, ...]:
        """What runs a command on a host, put before it."""
        return ("ip", "netns", "exec", self._space(name))

    def cut(self, name: str) -> None:
        """Nothing reaches the host, and nothing comes from it."""
        _ip(f"link set {self._tag}{self._hosts[name]} down")

    def cut_from(self, name: str, address: str) -> None:
        """What the host sends there is lost."""
        _ip(f"-n {self._space(name)} route add blackhole {address}/32")

    def join(self, name: str) -> None:
        """It is reached again, and reaches everybody."""
        _ip(f"link set {self._tag}{self._hosts[name]} up")
        for address in (self.gateway, self.other):
            _ip(f"-n {self._space(name)} route del blackhole {address}/32", check=False)

    def close(self) -> None:
        """Nothing of it is left; its processes have ended before."""
        for name in self._hosts:
            _ip(f"netns del {self._space(name)}", check=False)
        _ip(f"link del {self._tag}", check=False)

    def _space(self, name: str) -> str:
        return f"{self._tag}-{name}"


def _ip(arguments: str, *, check: bool = True) -> None:
    ran = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
    if check and ran.returncode:
        raise RuntimeError(f"ip {arguments}: {ran.stderr.strip()}")
