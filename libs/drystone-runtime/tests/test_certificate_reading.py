# SPDX-License-Identifier: Apache-2.0
"""Our reading of certificates agrees with a library's, and never does anything but raise ValueError on rubbish."""

import ssl
import time

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from drystone_core.identity import Identity, ServiceKind
from drystone_runtime.authority import Authority
from drystone_runtime.rpc.certificate import read_certificate

AUTHORITY = Authority.new("cell", now=int(time.time()))
_ISSUED = AUTHORITY.issue(Identity(cell="cell", kind=ServiceKind.METADATA, name="0"), now=1_800_000_000, days=1)
GOOD = ssl.PEM_cert_to_DER_cert(_ISSUED.cert.decode())
LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=40)


@given(
    uris=st.lists(LABEL.map(lambda name: f"spiffe://cell/metadata/{name}"), max_size=3),
    names=st.lists(LABEL.map(lambda name: f"{name}.internal"), max_size=40),
    begins=st.integers(-1, 4_000_000_000),
    lasts=st.integers(0, 3_000_000_000),
)
def test_names_and_times_are_those_a_library_reads(uris: list[str], names: list[str], begins: int, lasts: int) -> None:
    """Before and after 2050, where the form of times changes; with lengths of one, two and three bytes."""
    issued = AUTHORITY.issue_names(uris, names, not_before=begins, not_after=begins + lasts)
    ours, theirs = read_certificate(issued.cert), x509.load_pem_x509_certificate(issued.cert)
    assert ours.not_before == theirs.not_valid_before_utc.timestamp()
    assert ours.not_after == theirs.not_valid_after_utc.timestamp()
    try:
        listed = theirs.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        assert (ours.uris, ours.names) == ((), ())
        return
    assert list(ours.uris) == listed.get_values_for_type(x509.UniformResourceIdentifier)
    assert list(ours.names) == listed.get_values_for_type(x509.DNSName)


@given(st.data())
def test_a_damaged_certificate_raises_nothing_but_value_error(data: st.DataObject) -> None:
    """Bytes changed and cut at will."""
    der = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(der)))
    try:
        read_certificate(ssl.DER_cert_to_PEM_cert(bytes(der[:cut])).encode())
    except ValueError:
        pass


@pytest.mark.parametrize("text", [b"", b"nothing", AUTHORITY.issued.key, b"-----BEGIN CERTIFICATE-----\n!!!\n"])
def test_what_is_no_certificate_is_said_to_be_none(text: bytes) -> None:
    """A key in the certificate's place, for instance."""
    with pytest.raises(ValueError, match="no PEM certificate"):
        read_certificate(text)
