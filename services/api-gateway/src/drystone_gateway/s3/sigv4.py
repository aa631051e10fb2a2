# SPDX-License-Identifier: Apache-2.0
"""Who sends a request: AWS Signature Version 4 in the Authorization header or in the query (presigned), or nobody.

Invariants
  G1  There is one way in: `verify` either returns a Caller whose signature was checked, an anonymous one for a request
      that carries no credential of any kind, or raises. No header decides that a check is skipped.
  G2  `host` and every `x-amz-*` header present are signed, in both forms (Swift CVE-2026-71191).
  G3  Comparison of signatures and tokens takes constant time. No secret appears in an error, a repr or a log.
  G4  Caches are bounded, and only verified requests enter them.
Version 2 is accepted in the query only and can be switched off: see `sigv2`.
Not offered, refused by name: Signature Version 2 in the header, Version 4A (ECDSA).
Source: "Authenticating Requests (AWS Signature Version 4)"; s3-surface §5 #1 to #12; reliability §5.1, §5.2.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from drystone_core.errors import ErrorCode, Refused
from drystone_core.ports import Clock
from drystone_gateway.s3.amz_time import amz_date, iso_date, parse_amz_date, parse_http_date
from drystone_gateway.s3.canonical import canonical_headers, canonical_query, normal_path, normal_query
from drystone_gateway.s3.escape import uri_decode
from drystone_gateway.s3.payload import UNSIGNED_PAYLOAD, PayloadMode, Streaming, Unsigned, payload_mode
from drystone_gateway.s3.request import RequestHead
from drystone_gateway.s3.signing_key import SigningKey, derive_signing_key
from drystone_gateway.s3.sigv2 import VERSION_TWO, check_expiry_v2, check_signature_v2, parse_query_v2

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_SECONDS = 15 * 60
EXPIRES_LIMIT = 7 * 24 * 3600
CACHE_LIMIT = 4096
"""Entries in each of the two caches (scopes, signing keys); a full one is emptied."""

_SIGNATURE = re.compile(r"[0-9a-f]{64}\Z")
_SINGLE = frozenset(
    {
        "authorization",
        "host",
        "date",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "x-amz-decoded-content-length",
    }
)
_VERSION_FOUR = frozenset({"X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential"})
_PRESIGNED_PARAMETERS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")


@dataclass(frozen=True, slots=True)
class Credential:
    """What an access key stands for."""

    access_key: str
    secret_key: str = field(repr=False)
    account: str
    """12 digits."""
    session_token: str = field(default="", repr=False)
    """Not empty for temporary credentials; the request must carry the same."""
    expires_us: int = 0
    """Unix microseconds; 0 = never."""


class CredentialSource(Protocol):
    """Finds credentials; a dict's `.get` is one. Must not block."""

    def __call__(self, access_key: str, /) -> Credential | None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified sender."""

    account: str
    """Empty when anonymous."""
    access_key: str
    payload: PayloadMode
    presigned: bool = False
    anonymous: bool = False
    version_two: bool = False
    """Presigned by Signature Version 2: see `sigv2.check_operation_v2`."""


class _Scope:
    """The part of an Authorization header that repeats all day, parsed, with its key."""

    __slots__ = ("credential", "date", "key", "signed", "signed_set", "signed_text", "text")

    def __init__(self, credential: Credential, date: str, text: str, signed_text: str, key: SigningKey) -> None:
        self.credential = credential
        self.date = date
        self.text = text
        self.signed_text = signed_text
        self.signed = tuple(signed_text.split(";"))
        self.signed_set = frozenset(self.signed)
        self.key = key


class Verifier:
    """Verifies requests for one region. Give it a credential source and a clock; it keeps two bounded caches."""

    def __init__(
        self,
        *,
        credentials: CredentialSource,
        region: str,
        clock: Clock,
        unsigned_needs_tls: bool = False,
        presigned_v2: bool = True,
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._clock = clock
        self._unsigned_needs_tls = unsigned_needs_tls
        self._presigned_v2 = presigned_v2
        self._scopes: dict[str, _Scope] = {}
        self._keys: dict[tuple[str, str, str], SigningKey] = {}
        self._dates: dict[str, int] = {}

    def verify(self, request: RequestHead, *, virtual_bucket: str = "") -> Caller:
        """The caller, or Refused. Costs one SHA-256 and one HMAC.

        `virtual_bucket` is the bucket that the Host header names, empty for path style; Version 2 signs it.
        """
        headers = request.headers
        query = request.query
        authorization = headers.get("authorization")
        if request.repeated and not _SINGLE.isdisjoint(request.repeated):
            raise Refused(ErrorCode.INVALID_REQUEST, "A header that may occur once occurs several times.")
        signed_query = _query_mechanism(query) if "X-Amz-" in query or "Signature" in query or "AWSA" in query else ""
        if authorization is None:
            if signed_query == "v2":
                return self._presigned_two(request, virtual_bucket)
            return self._presigned(request) if signed_query else self._anonymous(request)
        if signed_query:
            raise Refused(
                ErrorCode.INVALID_ARGUMENT,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string"
                " parameter or the Authorization header should be specified",
                ArgumentName="Authorization",
                ArgumentValue=authorization.partition(" ")[0],
            )
        return self._header(request, authorization)

    def _header(self, request: RequestHead, authorization: str) -> Caller:
        headers = request.headers
        prefix, _, signature = authorization.rpartition("Signature=")
        scope = self._scopes.get(prefix)
        known = scope is not None and self._credentials(scope.credential.access_key) == scope.credential
        if scope is None or not known:
            scope, signature = self._parse_header(authorization)
        payload_hash = headers.get("x-amz-content-sha256")
        if payload_hash is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "Missing required header for this request: x-amz-content-sha256")
        for name in headers:
            if name.startswith("x-amz-") and name not in scope.signed_set:
                raise _unsigned_header(headers, scope.signed_set)
        stamp = headers.get("x-amz-date")
        if stamp is None:
            stamp, seconds = _stamp_of_date(headers.get("date", ""))
        else:
            seconds = self._seconds(stamp)
        if not stamp.startswith(scope.date):
            raise _malformed(f'Invalid credential date "{scope.date}". This date is not the same as X-Amz-Date.')
        self._check_skew(seconds, stamp)
        credential = scope.credential
        self._check_token(credential, headers.get("x-amz-security-token", ""))
        self._check_signature(request, scope, stamp, request.query, payload_hash, signature)
        if not known and len(prefix) + len("Signature=") + len(signature) == len(authorization):
            self._remember(prefix, scope)
        mode = payload_mode(payload_hash, seed=signature, key=scope.key, scope=scope.text, date=stamp)
        self._check_tls(request, mode)
        return Caller(credential.account, credential.access_key, mode)

    def _presigned(self, request: RequestHead) -> Caller:
        fields = _presigned_fields(request.query)
        if fields["Algorithm"] != ALGORITHM:
            raise _query_error('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
        expires = _expiry(fields["Expires"])
        stamp = fields["Date"]
        seconds = parse_amz_date(stamp)
        if seconds is None:
            raise _query_error("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        scope = self._scope(fields["Credential"], fields["SignedHeaders"], _query_error)
        if not stamp.startswith(scope.date):
            raise _query_error(f'Invalid credential date "{scope.date}". This date is not the same as X-Amz-Date.')
        if not _SIGNATURE.match(fields["Signature"]):
            raise _query_error("X-Amz-Signature is not a signature of 64 hex digits.")
        headers = request.headers
        for name in headers:
            if name.startswith("x-amz-") and name not in scope.signed_set:
                raise _unsigned_header(headers, scope.signed_set)
        now = self._clock.wall_us() // 1_000_000
        if seconds > now + SKEW_SECONDS:
            raise Refused(ErrorCode.ACCESS_DENIED, "Request is not yet valid", ServerTime=iso_date(now))
        if now > seconds + expires:
            raise Refused(
                ErrorCode.ACCESS_DENIED,
                "Request has expired",
                **{"X-Amz-Expires": str(expires), "Expires": iso_date(seconds + expires), "ServerTime": iso_date(now)},
            )
        payload_hash = headers.get("x-amz-content-sha256") or fields.get("Content-Sha256") or UNSIGNED_PAYLOAD
        if not payload_hash.isascii():
            raise _query_error("X-Amz-Content-Sha256 is malformed.")
        credential = scope.credential
        self._check_token(credential, fields.get("Security-Token", "") or headers.get("x-amz-security-token", ""))
        self._check_signature(request, scope, stamp, request.query, payload_hash, fields["Signature"])
        self._keep_key(scope)
        mode = payload_mode(payload_hash)
        self._check_tls(request, mode)
        return Caller(credential.account, credential.access_key, mode, presigned=True)

    def _presigned_two(self, request: RequestHead, virtual_bucket: str) -> Caller:
        if not self._presigned_v2:
            raise _unsupported("AWS")
        query = parse_query_v2(request)
        check_expiry_v2(query.expires, self._clock.wall_us() // 1_000_000)
        credential = self._credentials(query.access_key)
        if credential is None:
            raise Refused(ErrorCode.INVALID_ACCESS_KEY_ID, AWSAccessKeyId=query.access_key[:128])
        self._check_token(credential, query.token or request.headers.get("x-amz-security-token", ""))
        check_signature_v2(request, query, credential.secret_key, virtual_bucket)
        mode = payload_mode(request.headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD))
        self._check_tls(request, mode)
        return Caller(credential.account, credential.access_key, mode, presigned=True, version_two=True)

    def _anonymous(self, request: RequestHead) -> Caller:
        mode = payload_mode(request.headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD))
        return Caller("", "", mode, anonymous=True)

    def _parse_header(self, authorization: str) -> tuple[_Scope, str]:
        scheme, _, rest = authorization.partition(" ")
        if scheme != ALGORITHM:
            raise _unsupported(scheme)
        fields: dict[str, str] = {}
        for piece in rest.split(","):
            name, equals, value = piece.strip().partition("=")
            if not equals or name in fields:
                raise _malformed("The authorization header is malformed; a field is not of the form name=value.")
            fields[name] = value
        if fields.keys() != {"Credential", "SignedHeaders", "Signature"}:
            raise _malformed(
                "The authorization header is malformed; the authorization header requires three components:"
                " Credential, SignedHeaders, and Signature."
            )
        if not _SIGNATURE.match(fields["Signature"]):
            raise _malformed("The authorization header is malformed; the signature is not 64 hex digits.")
        return self._scope(fields["Credential"], fields["SignedHeaders"], _malformed), fields["Signature"]

    def _scope(self, credential_text: str, signed_text: str, problem: "_Problem") -> _Scope:
        """A credential scope, checked, with the key it asks for. The access key may itself hold slashes."""
        parts = credential_text.rsplit("/", 4)
        if len(parts) != 5 or not parts[0]:
            raise problem('The Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".')
        access_key, date, region, service, terminator = parts
        if len(date) != 8 or not (date.isascii() and date.isdecimal()):
            raise problem(f'Invalid credential date format "{date}". This date must be in the format "yyyyMMdd".')
        if region != self._region:
            raise problem(f"The region '{region}' is wrong; expecting '{self._region}'", Region=self._region)
        if service != "s3":
            raise problem(f'Incorrect service "{service}". This endpoint belongs to "s3".', Region=self._region)
        if terminator != "aws4_request":
            raise problem(f'Incorrect terminal "{terminator}". It must be "aws4_request".', Region=self._region)
        names = signed_text.split(";")
        if "host" not in names or not signed_text.isascii() or signed_text != signed_text.lower():
            raise problem("SignedHeaders must be lower-case and hold host.")
        if len(set(names)) != len(names):
            raise problem("SignedHeaders must name each header once.")
        credential = self._credentials(access_key)
        if credential is None:
            raise Refused(ErrorCode.INVALID_ACCESS_KEY_ID, AWSAccessKeyId=access_key[:128])
        key = self._keys.get((access_key, credential.secret_key, date))
        if key is None:
            key = derive_signing_key(credential.secret_key, date, region)
        return _Scope(credential, date, f"{date}/{region}/s3/aws4_request", signed_text, key)

    def _check_signature(
        self, request: RequestHead, scope: _Scope, stamp: str, query: str, payload_hash: str, signature: str
    ) -> None:
        """SignatureDoesNotMatch unless the request as sent, or its normal spelling, was signed."""
        tail = f"{canonical_headers(request.headers, scope.signed)}\n{scope.signed_text}\n{payload_hash}"
        canonical = f"{request.method}\n{request.path}\n{canonical_query(query)}\n{tail}"
        message = f"{ALGORITHM}\n{stamp}\n{scope.text}\n{_sha256(canonical)}"
        given = signature.encode("latin-1", "replace")
        if hmac.compare_digest(scope.key.sign(message.encode("latin-1")).encode(), given):
            return
        path, other_query = normal_path(request.path), normal_query(query)
        if path is not None or other_query is not None:
            canonical = f"{request.method}\n{path or request.path}\n{canonical_query(other_query or query)}\n{tail}"
            message = f"{ALGORITHM}\n{stamp}\n{scope.text}\n{_sha256(canonical)}"
            if hmac.compare_digest(scope.key.sign(message.encode("latin-1")).encode(), given):
                return
        raise _mismatch(scope, message, canonical, signature)

    def _check_skew(self, seconds: int, stamp: str) -> None:
        now = self._clock.wall_us() // 1_000_000
        if abs(now - seconds) > SKEW_SECONDS:
            raise Refused(
                ErrorCode.REQUEST_TIME_TOO_SKEWED,
                RequestTime=stamp,
                ServerTime=iso_date(now),
                MaxAllowedSkewMilliseconds=str(SKEW_SECONDS * 1000),
            )

    def _seconds(self, stamp: str) -> int:
        """Unix seconds of an x-amz-date; requests of one second share the work."""
        seconds = self._dates.get(stamp)
        if seconds is None:
            parsed = parse_amz_date(stamp)
            if parsed is None:
                raise Refused(ErrorCode.ACCESS_DENIED, "AWS authentication requires a valid Date or x-amz-date header")
            if len(self._dates) >= 64:
                self._dates.clear()
            seconds = self._dates[stamp] = parsed
        return seconds

    def _check_token(self, credential: Credential, token: str) -> None:
        expected = credential.session_token
        if not expected and not token:
            return
        if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
            raise Refused(ErrorCode.INVALID_TOKEN)
        if credential.expires_us and self._clock.wall_us() >= credential.expires_us:
            raise Refused(ErrorCode.EXPIRED_TOKEN)

    def _check_tls(self, request: RequestHead, mode: PayloadMode) -> None:
        if not self._unsigned_needs_tls or request.secure or request.method not in ("PUT", "POST"):
            return
        if isinstance(mode, Unsigned) or (isinstance(mode, Streaming) and not mode.signed):
            raise Refused(
                ErrorCode.INVALID_REQUEST,
                "This endpoint accepts an unsigned payload over TLS only: use HTTPS or sign the payload.",
            )

    def _remember(self, prefix: str, scope: _Scope) -> None:
        if len(self._scopes) >= CACHE_LIMIT:
            self._scopes.clear()
        self._scopes[prefix] = scope
        self._keep_key(scope)

    def _keep_key(self, scope: _Scope) -> None:
        if len(self._keys) >= CACHE_LIMIT:
            self._keys.clear()
        self._keys[scope.credential.access_key, scope.credential.secret_key, scope.date] = scope.key


class _Problem(Protocol):
    def __call__(self, message: str, /, **details: str) -> Refused: ...


def _malformed(message: str, /, **details: str) -> Refused:
    return Refused(ErrorCode.AUTHORIZATION_HEADER_MALFORMED, message, **details)


def _query_error(message: str, /, **details: str) -> Refused:
    return Refused(ErrorCode.AUTHORIZATION_QUERY_PARAMETERS_ERROR, message, **details)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("latin-1")).hexdigest()


def _unsupported(scheme: str) -> Refused:
    if scheme.startswith("AWS4-ECDSA"):
        return Refused(ErrorCode.NOT_IMPLEMENTED, "Signature Version 4A is not supported.")
    if scheme == "AWS":
        return Refused(
            ErrorCode.INVALID_REQUEST,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    return Refused(ErrorCode.INVALID_ARGUMENT, "Unsupported Authorization Type", ArgumentName="Authorization")


def _unsigned_header(headers: Mapping[str, str], signed: frozenset[str]) -> Refused:
    names = ", ".join(name for name in headers if name.startswith("x-amz-") and name not in signed)
    return Refused(
        ErrorCode.ACCESS_DENIED,
        "There were headers present in the request which were not signed",
        HeadersNotSigned=names,
    )


def _mismatch(scope: _Scope, message: str, canonical: str, signature: str) -> Refused:
    details = {
        "AWSAccessKeyId": scope.credential.access_key,
        "StringToSign": message,
        "SignatureProvided": signature[:128],
        "StringToSignBytes": message.encode("latin-1").hex(" "),
    }
    if "customer-key:" not in canonical:
        details["CanonicalRequest"] = canonical
        details["CanonicalRequestBytes"] = canonical.encode("latin-1").hex(" ")
    return Refused(ErrorCode.SIGNATURE_DOES_NOT_MATCH, **details)


def _stamp_of_date(text: str) -> tuple[str, int]:
    """(ISO basic form, seconds) of a Date header, used when there is no x-amz-date."""
    seconds = parse_amz_date(text)
    if seconds is None:
        seconds = parse_http_date(text)
    if seconds is None:
        raise Refused(ErrorCode.ACCESS_DENIED, "AWS authentication requires a valid Date or x-amz-date header")
    return amz_date(seconds), seconds


def _query_pairs(query: str) -> Iterable[tuple[str, str]]:
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        yield name, value


def _query_mechanism(query: str) -> str:
    """Which signature a query claims to carry: "v4", "v2", or "" for none; both at once are refused."""
    names = {name for name, _ in _query_pairs(query)}
    two = not names.isdisjoint(VERSION_TWO)
    if names.isdisjoint(_VERSION_FOUR):
        return "v2" if two else ""
    if two:
        raise Refused(ErrorCode.INVALID_ARGUMENT, "Only one auth mechanism allowed", ArgumentName="AWSAccessKeyId")
    return "v4"


def _presigned_fields(query: str) -> dict[str, str]:
    """The X-Amz-… parameters, decoded, without their prefix; each required one exactly once."""
    fields: dict[str, str] = {}
    for name, value in _query_pairs(query):
        if not name.startswith("X-Amz-"):
            continue
        short = name[6:]
        if short in fields:
            raise _query_error(f"{name} is given twice.")
        try:
            fields[short] = uri_decode(value, plus_is_space=True).decode("utf-8")
        except ValueError:
            raise _query_error(f"{name} is not valid percent-encoded UTF-8.") from None
    if fields.get("Algorithm", "").startswith("AWS4-ECDSA"):
        raise _unsupported(fields["Algorithm"])
    if any(not fields.get(name) for name in _PRESIGNED_PARAMETERS):
        raise _query_error(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature,"
            " X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
    return fields


def _expiry(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 10:
        raise _query_error("X-Amz-Expires should be a number")
    expires = int(text)
    if not 1 <= expires <= EXPIRES_LIMIT:
        raise _query_error(
            "X-Amz-Expires must be between 1 second and a week (in seconds); that is, the given X-Amz-Expires must be"
            " less than 604800 seconds"
        )
    return expires
