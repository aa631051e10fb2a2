# SPDX-License-Identifier: Apache-2.0
"""How etcd is reached: one frozen section, in the manner of drystone_runtime.config_sections.

The password is in a file of its own, never in the configuration: what is shown or handed on holds no secret.
"""

import os
from dataclasses import dataclass

from drystone_runtime.addresses import host_port
from drystone_runtime.config_sections import duration, setting, text, texts


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """The section `coordinator`."""

    endpoints: tuple[str, ...] = setting(
        (), texts, "etcd's members, HOST:PORT each; empty = embedded, one machine only"
    )
    prefix: str = setting("/drystone/", text, "all keys begin with it; a cell that shares an etcd needs one of its own")
    user: str = setting("", text, "etcd user; empty = none (a client certificate may name one)")
    password_file: str = setting("", text, "file with the user's password (its last line break is no part of it)")
    tls_ca: str = setting("", text, "PEM file with the authorities that signed etcd's certificates; empty = no TLS")
    tls_cert: str = setting("", text, "PEM file with this process's certificate chain, when etcd asks for one")
    tls_key: str = setting("", text, "PEM file with that certificate's private key")
    timeout: float = setting(
        5.0, duration, "a call that has no answer by then fails; members that do not answer are left sooner"
    )
    session: float = setting(10.0, duration, "a node that is silent for so long counts as gone")
    progress: float = setting(2.0, duration, "watches ask for a sign of life so often")

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        found = []
        for endpoint in self.endpoints:
            try:
                host_port(endpoint)
            except ValueError as error:
                found.append(f"coordinator.endpoints: {error}")
        if len(set(self.endpoints)) != len(self.endpoints):
            found.append("coordinator.endpoints: names one twice")
        if not self.prefix.endswith("/"):
            found.append("coordinator.prefix: ends with a slash, so that no other prefix begins with it")
        if bool(self.user) != bool(self.password_file):
            found.append("coordinator: user and password_file go together; set both or neither")
        if bool(self.tls_cert) != bool(self.tls_key):
            found.append("coordinator: tls_cert and tls_key go together; set both or neither")
        if self.tls_cert and not self.tls_ca:
            found.append("coordinator.tls_ca: needed with tls_cert")
        for name in ("password_file", "tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path and not os.access(path, os.R_OK):
                found.append(f"coordinator.{name}: {path} cannot be read")
        if self.timeout < 0.5:
            found.append("coordinator.timeout: at least 500ms")
        if self.session < 2:
            found.append("coordinator.session: at least 2s, etcd gives no shorter lease")
        if self.progress < 0.1:
            found.append("coordinator.progress: at least 100ms")
        return found
