# SPDX-License-Identifier: Apache-2.0
"""Identities of services: what is one, what is none."""

import pytest

from drystone_core.identity import Identity, ServiceKind, server_name


@pytest.mark.parametrize("kind", ServiceKind)
def test_an_identity_survives_its_uri(kind: ServiceKind) -> None:
    """For every kind of service."""
    identity = Identity(cell="eu-1", kind=kind, name="a.b_c-9")
    assert Identity.parse(identity.uri) == identity
    assert identity.uri == f"spiffe://eu-1/{kind.value}/a.b_c-9"
    assert identity.server_name == server_name("eu-1", kind) == f"{kind.value}.eu-1.drystone.internal"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "spiffe://cell",
        "spiffe://cell/metadata",
        "spiffe://cell/metadata/",
        "spiffe://cell/metadata/m0/",
        "spiffe://cell/metadata/m0/extra",
        "spiffe://cell//metadata/m0",
        "spiffe:///metadata/m0",
        "https://cell/metadata/m0",
        "SPIFFE://cell/metadata/m0",
        "spiffe://Cell/metadata/m0",
        "spiffe://cell.example/metadata/m0",
        "spiffe://-cell/metadata/m0",
        "spiffe://" + "c" * 64 + "/metadata/m0",
        "spiffe://cell/Metadata/m0",
        "spiffe://cell/owner/m0",
        "spiffe://cell/anyone/m0",
        "spiffe://cell/metadata/" + "m" * 64,
        "spiffe://cell/metadata/m0\n",
        "spiffe://cell/metadata/m0?x=1",
        "spiffe://cell/metadata/m0#x",
        "spiffe://cell/metadata/..",
        "spiffe://user@cell/metadata/m0",
        "spiffe://cell:80/metadata/m0",
    ],
)
def test_what_is_no_identity_is_refused_in_words(uri: str) -> None:
    """No normalising, no guessing: one spelling."""
    with pytest.raises(ValueError, match="is not"):
        Identity.parse(uri)
