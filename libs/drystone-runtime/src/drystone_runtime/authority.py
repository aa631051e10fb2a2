# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for one cell: for tests, for clusters on one machine, for a first installation.

Only `drystone certs init` and tests import this module (it imports `cryptography`); whoever has an authority of his own gives
certificates of the same form: one URI spiffe://CELL/SERVICE/NAME, one DNS name SERVICE.CELL.drystone.internal, for both ends
of TLS.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drystone_core.identity import Identity

DAY = 86_400
AUTHORITY_DAYS = 3650
BACKDATE = 300
"""Seconds a certificate begins before it is made: clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes = field(repr=False)
    until: int
    """Unix time, seconds."""


class Authority:
    """Vouches for the services of one cell."""

    def __init__(self, *, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def new(cls, cell: str, *, now: int, days: int = AUTHORITY_DAYS) -> Self:
        """With a key of its own; `now` is Unix time in seconds."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cell),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Drystone authority of cell {cell}"),
            ]
        )
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True,
            content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            _builder(name, name, key, now - BACKDATE, now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate=certificate, key=key)

    @classmethod
    def load(cls, cert: bytes, key: bytes) -> Self:
        """From PEM; ValueError when it is not one of ours."""
        private = serialization.load_pem_private_key(key, None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an elliptic-curve key")
        return cls(certificate=x509.load_pem_x509_certificate(cert), key=private)

    @property
    def cell(self) -> str:
        """Whose services it vouches for."""
        found = self._certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(found[0].value) if found else ""

    @property
    def issued(self) -> Issued:
        """Its own certificate and key."""
        until = int(self._certificate.not_valid_after_utc.timestamp())
        return Issued(cert=_pem(self._certificate), key=_key_pem(self._key), until=until)

    def issue(self, identity: Identity, *, now: int, days: int) -> Issued:
        """A certificate for a service; it may call and be called."""
        return self.issue_names(
            [identity.uri], [identity.server_name], not_before=now - BACKDATE, not_after=now + days * DAY
        )

    def issue_names(self, uris: Sequence[str], names: Sequence[str], *, not_before: int, not_after: int) -> Issued:
        """A certificate with just these names; Unix times in seconds."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(x509.Name([]), self._certificate.subject, key, not_before, not_after)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if uris or names:
            listed = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, names)]
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=True)
        return Issued(cert=_pem(builder.sign(self._key, hashes.SHA256())), key=_key_pem(key), until=not_after)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, not_before: int, not_after: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(not_after, UTC))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
