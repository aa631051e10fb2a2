# SPDX-License-Identifier: Apache-2.0
"""Which access keys exist. For now one: the root credential, given by whoever starts the gateway."""

from collections.abc import Iterable

from drystone_core.check import check
from drystone_gateway.s3.sigv4 import Credential


class Credentials:
    """A `CredentialSource` over a fixed set."""

    __slots__ = ("_by_key",)

    def __init__(self, credentials: Iterable[Credential]) -> None:
        self._by_key = {credential.access_key: credential for credential in credentials}
        check(bool(self._by_key), "at least one credential")

    def __call__(self, access_key: str, /) -> Credential | None:
        return self._by_key.get(access_key)


def root_credentials(*, access_key: str, secret_key: str, account: str) -> Credentials:
    """The root account's only key."""
    check(len(access_key) >= 3 and len(secret_key) >= 8, "a credential has an access key and a secret of 8 characters")
    return Credentials((Credential(access_key, secret_key, account),))
