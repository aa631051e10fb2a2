# SPDX-License-Identifier: Apache-2.0
"""What the S3 layer needs to see of a request; `drystone_gateway.http.messages.Request` satisfies it."""

from collections.abc import Mapping
from typing import Protocol


class RequestHead(Protocol):
    """A request without its body."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str:
        """Raw path: undecoded, unnormalised, latin-1."""
        ...

    @property
    def query(self) -> str:
        """Raw query."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case name → value."""
        ...

    @property
    def repeated(self) -> frozenset[str]:
        """Names that came more than once (their values are joined with a comma)."""
        ...

    @property
    def secure(self) -> bool: ...
