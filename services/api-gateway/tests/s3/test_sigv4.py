# SPDX-License-Identifier: Apache-2.0
"""The verifier against botocore's signer, and every way a request may be altered (s3-surface §5 #1 to #12)."""

import datetime
import hashlib
import hmac
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.amz_time import amz_date, http_date
from drystone_gateway.s3.payload import EMPTY_SHA256, SignedHash, Streaming, Unsigned
from drystone_gateway.s3.sigv4 import Credential

ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = 1_795_443_521
HEX = "0123456789abcdef"


def sign(method, url, headers, *, body=b"", presign=0, at=NOW, token=None, secret=SECRET, region="us-east-1"):
    """(target, headers) as botocore sends them, signed at `at`."""
    frozen = datetime.datetime.fromtimestamp(at, datetime.UTC).replace(tzinfo=None)
    original = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *_a, **_k: frozen
    try:
        request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        credentials = botocore.credentials.Credentials(ACCESS, secret, token)
        if presign:
            botocore.auth.S3SigV4QueryAuth(credentials, "s3", region, expires=presign).add_auth(request)
        else:
            request.context["payload_signing_enabled"] = True
            botocore.auth.S3SigV4Auth(credentials, "s3", region).add_auth(request)
    finally:
        botocore.auth.get_current_datetime = original
    parts = urlsplit(request.url)
    sent = {name.lower(): value for name, value in request.headers.items()}
    sent["host"] = parts.netloc
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), sent


def refusal(verifier, request):
    with pytest.raises(Refused) as refused:
        verifier.verify(request)
    return refused.value


SAFE = "ABCabc019-_.~/"
path_texts = st.text(st.sampled_from(SAFE + "+ %=&'()*!$@:,;ü中\U0001f600"), max_size=40)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def quoted(text):
    return quote(text, safe="/~")


@settings(max_examples=500, deadline=None)
@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST"]),
    key=path_texts,
    query=st.dictionaries(st.sampled_from(["prefix", "uploads", "max-keys", "versionId", "a", "a-b", "A"]), values),
    meta=st.dictionaries(st.sampled_from(["x-amz-meta-a", "x-amz-meta-b", "content-type"]), values, max_size=3),
    body=st.binary(max_size=20),
    presign=st.sampled_from([0, 0, 60]),
    data=st.data(),
)
def test_botocore_requests_are_accepted_and_altered_ones_refused(
    make_request, make_verifier, method, key, query, meta, body, presign, data
):
    """What botocore signs is accepted; one changed character of any signed part is refused."""
    text = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query.items())
    url = f"http://127.0.0.1:9000/bucket/{quoted(key)}" + (f"?{text}" if text else "")
    meta = {name: value.strip() for name, value in meta.items()}
    body = b"" if presign else body
    target, headers = sign(method, url, meta, body=body, presign=presign)
    verifier = make_verifier(NOW + 5)
    caller = verifier.verify(make_request(method, target, headers))
    assert (caller.account, caller.presigned) == ("123456789012", bool(presign))
    if not presign:
        assert caller.payload == SignedHash(hashlib.sha256(body).hexdigest())
    changed = data.draw(mutations(method, target, headers, signed_meta=meta))
    error = refusal(verifier, make_request(*changed))
    assert error.code in {
        ErrorCode.SIGNATURE_DOES_NOT_MATCH,
        ErrorCode.AUTHORIZATION_QUERY_PARAMETERS_ERROR,
        ErrorCode.ACCESS_DENIED,
        ErrorCode.INVALID_ARGUMENT,
    }
    verifier.verify(make_request(method, target, headers))


def mutations(method, target, headers, *, signed_meta):
    """One alteration of a signed request."""
    path, mark, query = target.partition("?")
    options = [
        st.just(("PATCH" if method == "GET" else "GET", target, headers)),
        st.just((method, f"{path}x{mark}{query}", headers)),
        st.just((method, f"/other{path}{mark}{query}", headers)),
        st.just((method, f"{path}?{query}&versionId=other" if mark else f"{path}?versionId=other", headers)),
        st.just((method, f"{path}?{query}&acl" if mark else f"{path}?acl", headers)),
        st.just((method, target, headers | {"x-amz-copy-source": "/bucket/secret"})),
        st.just((method, target, headers | {"host": "other.example"})),
    ]
    if "authorization" in headers:
        options.append(st.just((method, target, headers | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})))
        head, signature = headers["authorization"].rsplit("=", 1)
        options.append(
            st.integers(0, 63).map(
                lambda at: (
                    method,
                    target,
                    headers
                    | {
                        "authorization": f"{head}={signature[:at]}{HEX[(HEX.index(signature[at]) + 1) % 16]}"
                        f"{signature[at + 1 :]}"
                    },
                )
            )
        )
        options += [st.just((method, target, headers | {n: v + "x"})) for n, v in signed_meta.items()]
    else:
        options.append(st.just((method, target.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), headers)))
    return st.one_of(options)


def test_pitfall_01_paths_are_signed_as_sent(make_request, make_verifier):
    """Double slashes, dots and encoded characters are signed and verified without normalisation."""
    for path in ("/bucket//a//b", "/bucket/./a/../b", "/bucket/a%20b%2Bc", "/bucket/%E4%B8%AD", "/bucket/a+b=c"):
        target, headers = sign("GET", "http://h" + path, {})
        assert target == path
        make_verifier(NOW).verify(make_request("GET", target, headers))
    target, headers = sign("GET", "http://h/bucket/a/b", {})
    for other in ("/bucket//a/b", "/bucket/./a/b", "/bucket/a/x/../b"):
        assert (
            refusal(make_verifier(NOW), make_request("GET", other, headers)).code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
        )


def test_pitfall_01_a_client_that_signs_the_encoded_path_and_sends_it_bare_is_accepted(make_request, make_verifier):
    """AWS computes the canonical path from the decoded one; so `a=b` on the wire may be signed as `a%3Db`."""
    _, headers = sign("GET", "http://h/bucket/a%3Db%40c?prefix=a%20b%2Fc", {})
    for target in ("/bucket/a=b@c?prefix=a+b/c", "/bucket/%61%3db%40c?prefix=%61%20b%2fc"):
        make_verifier(NOW).verify(make_request("GET", target, headers))
    for target in ("/bucket/a=b@d?prefix=a+b/c", "/bucket/a=b@c?prefix=a+b/d", "/bucket/a=b@c?prefix=a%2Bb/c"):
        error = refusal(make_verifier(NOW), make_request("GET", target, headers))
        assert error.code is ErrorCode.SIGNATURE_DOES_NOT_MATCH


def test_pitfall_03_the_query_is_sorted_by_name_then_value(make_request, make_verifier):
    """Order on the wire does not matter, `a` sorts before `a-b`, and a bare name counts as an empty value."""
    _, headers = sign("GET", "http://h/bucket?a=1&a-b=2&uploads=", {})
    make_verifier(NOW).verify(make_request("GET", "/bucket?uploads&a-b=2&a=1", headers))


def test_pitfall_04_header_values_are_trimmed_and_collapsed(make_request, make_verifier):
    """Runs of blanks inside a signed header count as one."""
    target, headers = sign("PUT", "http://h/b/k", {"x-amz-meta-a": "x y"})
    make_verifier(NOW).verify(make_request("PUT", target, headers | {"x-amz-meta-a": "x    y"}))


def test_pitfall_05_unsigned_amz_headers_are_refused_in_both_forms(make_request, make_verifier):
    """A bearer may not add x-amz-copy-source to a presigned PUT, nor anybody to a signed request."""
    for presign in (0, 600):
        target, headers = sign("PUT", "http://h/b/k", {}, presign=presign)
        error = refusal(make_verifier(NOW), make_request("PUT", target, headers | {"x-amz-copy-source": "/b/secret"}))
        assert error.code is ErrorCode.ACCESS_DENIED
        assert error.details["HeadersNotSigned"] == "x-amz-copy-source"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, ErrorCode.INVALID_REQUEST),
        ("abc", ErrorCode.INVALID_ARGUMENT),
        ("STREAMING-AWS4-HMAC-SHA256-EVENTS", ErrorCode.INVALID_ARGUMENT),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", ErrorCode.NOT_IMPLEMENTED),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", ErrorCode.NOT_IMPLEMENTED),
    ],
)
def test_pitfall_06_payload_modes_are_a_closed_set(make_request, make_verifier, text, code):
    """A missing or unknown x-amz-content-sha256 is refused even when the signature fits."""
    target, headers = signed_with_payload(text)
    assert refusal(make_verifier(NOW), make_request("PUT", target, headers)).code is code


def signed_with_payload(text, *, presign=0):
    """A PUT whose x-amz-content-sha256 is `text` and whose signature is right for it."""
    form = botocore.auth.S3SigV4QueryAuth if presign else botocore.auth.S3SigV4Auth
    original = form.payload
    form.payload = lambda self, request: text or "UNSIGNED-PAYLOAD"
    try:
        sent = {"x-amz-content-sha256": text} if presign else {}
        target, headers = sign("PUT", "http://h/b/k", sent, presign=presign)
    finally:
        form.payload = original
    if text is None:
        headers.pop("x-amz-content-sha256", None)
    return target, headers


def test_presigned_uploads_cannot_be_chunk_signed_but_may_bring_trailers(make_request, make_verifier):
    """Streaming modes are judged when presigned too (MinIO CVE-2026-41145): verified, then allowed or refused."""
    target, headers = signed_with_payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER", presign=600)
    caller = make_verifier(NOW).verify(make_request("PUT", target, headers))
    assert (caller.payload, caller.presigned) == (Streaming(signed=False, trailer=True), True)
    forged = target[:-1] + ("0" if target[-1] != "0" else "1")
    assert refusal(make_verifier(NOW), make_request("PUT", forged, headers)).code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
    for text in ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"):
        target, headers = signed_with_payload(text, presign=600)
        assert refusal(make_verifier(NOW), make_request("PUT", target, headers)).code is ErrorCode.INVALID_REQUEST
    digest = hashlib.sha256(b"body").hexdigest()
    caller = make_verifier(NOW).verify(make_request("PUT", *signed_with_payload(digest, presign=600)))
    assert caller.payload == SignedHash(digest)


@pytest.mark.parametrize(
    ("text", "signed", "trailer"),
    [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", True, False),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", True, True),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", False, True),
    ],
)
def test_pitfall_06_streaming_modes_carry_the_seed(make_request, make_verifier, text, signed, trailer):
    """The three streaming forms are recognised; signed ones continue from the request's signature."""
    target, headers = signed_with_payload(text)
    payload = make_verifier(NOW).verify(make_request("PUT", target, headers)).payload
    assert isinstance(payload, Streaming)
    assert (payload.signed, payload.trailer, payload.seed != "", payload.key is not None) == (
        signed,
        trailer,
        signed,
        signed,
    )


def test_unsigned_payload_may_be_confined_to_tls(make_request, make_verifier):
    """With unsigned_needs_tls an unsigned body is accepted over TLS only; reads are not touched."""
    verifier = make_verifier(NOW, unsigned_needs_tls=True)
    target, headers = signed_with_payload("UNSIGNED-PAYLOAD")
    assert refusal(verifier, make_request("PUT", target, headers)).code is ErrorCode.INVALID_REQUEST
    assert verifier.verify(make_request("PUT", target, headers, secure=True)).payload == Unsigned()


@pytest.mark.parametrize("offset", [-901, 901])
def test_pitfall_10_skew_beyond_fifteen_minutes_is_refused(make_request, make_verifier, offset):
    """900 seconds either way pass, one more does not, and the refusal says what the server's time is."""
    target, headers = sign("GET", "http://h/b/k", {})
    make_verifier(NOW + offset - (1 if offset > 0 else -1)).verify(make_request("GET", target, headers))
    error = refusal(make_verifier(NOW + offset), make_request("GET", target, headers))
    assert error.code is ErrorCode.REQUEST_TIME_TOO_SKEWED
    assert error.details["MaxAllowedSkewMilliseconds"] == "900000"


def test_pitfall_10_x_amz_date_wins_over_date(make_request, make_verifier):
    """Date counts when x-amz-date is missing, in either form; beside it, whatever it says does not matter."""
    target, headers = sign("GET", "http://h/b/k", {})
    make_verifier(NOW).verify(make_request("GET", target, headers | {"date": "Thu, 01 Jan 1970 00:00:00 GMT"}))
    for date in (http_date(NOW), amz_date(NOW)):
        signed = manually_signed({"host": "h", "date": date, "x-amz-content-sha256": EMPTY_SHA256})
        assert make_verifier(NOW).verify(make_request("GET", "/b/k", signed)).access_key == ACCESS
        error = refusal(make_verifier(NOW + 901), make_request("GET", "/b/k", signed))
        assert error.code is ErrorCode.REQUEST_TIME_TOO_SKEWED
    unsigned = {name: value for name, value in signed.items() if name != "date"}
    assert refusal(make_verifier(NOW), make_request("GET", "/b/k", unsigned)).code is ErrorCode.ACCESS_DENIED


def manually_signed(headers):
    """GET /b/k signed by the text of the documentation, for headers that botocore would replace."""
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n/b/k\n\n{lines}\n{names}\n{headers['x-amz-content-sha256']}"
    stamp = amz_date(NOW)
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={ACCESS}/{scope},SignedHeaders={names},Signature={signature}"
    return headers | {"authorization": f"AWS4-HMAC-SHA256 {credential}"}


def test_pitfall_10_a_wrong_scope_names_the_region(make_request, make_verifier):
    """Region, service and terminator of the scope are checked; botocore finds the right region in <Region>."""
    target, headers = sign("GET", "http://h/b/k", {}, region="eu-west-1")
    error = refusal(make_verifier(NOW), make_request("GET", target, headers))
    assert (error.code, error.details["Region"]) == (ErrorCode.AUTHORIZATION_HEADER_MALFORMED, "us-east-1")
    target, headers = sign("GET", "http://h/b/k", {})
    for old, new in (("/s3/", "/ec2/"), ("aws4_request", "aws5_request"), ("/2026", "/2025"), (ACCESS + "/", "")):
        altered = headers | {"authorization": headers["authorization"].replace(old, new)}
        error = refusal(make_verifier(NOW), make_request("GET", target, altered))
        assert error.code is ErrorCode.AUTHORIZATION_HEADER_MALFORMED, (old, new)


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "abc", "", "1e3", "٣"])
def test_pitfall_11_expiry_is_one_second_to_seven_days(make_request, make_verifier, expires):
    """X-Amz-Expires outside 1 … 604800 is refused before the signature is looked at."""
    target, headers = sign("GET", "http://h/b/k", {}, presign=600)
    altered = target.replace("X-Amz-Expires=600", f"X-Amz-Expires={quote(expires)}")
    error = refusal(make_verifier(NOW), make_request("GET", altered, headers))
    assert error.code is ErrorCode.AUTHORIZATION_QUERY_PARAMETERS_ERROR


def test_pitfall_11_presigned_requests_are_bound_to_method_time_and_parameters(make_request, make_verifier):
    """Expired, not yet valid, another method, doubled or missing parameters: all refused."""
    target, headers = sign("GET", "http://h/b/k?response-content-type=text%2Fplain", {}, presign=600)
    assert make_verifier(NOW + 600).verify(make_request("GET", target, headers)).payload == Unsigned()
    assert refusal(make_verifier(NOW + 601), make_request("GET", target, headers)).details["X-Amz-Expires"] == "600"
    assert refusal(make_verifier(NOW - 901), make_request("GET", target, headers)).message == "Request is not yet valid"
    bearer = headers | {"user-agent": "x", "content-type": "text/plain", "if-none-match": "x", "range": "bytes=0-1"}
    assert make_verifier(NOW).verify(make_request("GET", target, bearer)).presigned
    altered = {
        "method": ("PUT", target),
        "override": ("GET", target.replace("plain", "html")),
        "doubled": ("GET", target + "&X-Amz-Expires=600"),
        "missing": ("GET", target.replace("X-Amz-Date", "X-Amz-Datum")),
    }
    for name, (method, other) in altered.items():
        assert refusal(make_verifier(NOW), make_request(method, other, headers)).code in {
            ErrorCode.SIGNATURE_DOES_NOT_MATCH,
            ErrorCode.AUTHORIZATION_QUERY_PARAMETERS_ERROR,
        }, name


def test_pitfall_12_two_mechanisms_are_refused(make_request, make_verifier):
    """An Authorization header beside query authentication is InvalidArgument."""
    target, _ = sign("GET", "http://h/b/k", {}, presign=600)
    _, header_form = sign("GET", "http://h/b/k", {})
    assert refusal(make_verifier(NOW), make_request("GET", target, header_form)).code is ErrorCode.INVALID_ARGUMENT


def test_pitfall_12_unknown_keys_and_wrong_secrets_are_told_apart(make_request, make_verifier):
    """Unknown access key: InvalidAccessKeyId. Wrong secret: SignatureDoesNotMatch, with what was signed."""
    target, headers = sign("GET", "http://h/b/k", {}, secret="wrong")
    error = refusal(make_verifier(NOW), make_request("GET", target, headers))
    assert error.code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
    assert error.details["CanonicalRequest"].startswith("GET\n/b/k\n\nhost:h\n")
    assert SECRET not in repr(error.details)
    error = refusal(make_verifier(NOW, credentials={}), make_request("GET", target, headers))
    assert (error.code, error.details["AWSAccessKeyId"]) == (ErrorCode.INVALID_ACCESS_KEY_ID, ACCESS)


@pytest.mark.parametrize("presign", [0, 600])
def test_pitfall_12_session_tokens_must_fit(make_request, make_verifier, presign):
    """A temporary credential needs its token; another, none, or one too many is InvalidToken; late is ExpiredToken."""
    temporary = {ACCESS: Credential(ACCESS, SECRET, "123456789012", "token-1", (NOW + 100) * 1_000_000)}
    good = sign("GET", "http://h/b/k", {}, token="token-1", presign=presign)
    assert make_verifier(NOW, credentials=temporary).verify(make_request("GET", *good)).account
    error = refusal(make_verifier(NOW + 100, credentials=temporary), make_request("GET", *good))
    assert error.code is ErrorCode.EXPIRED_TOKEN
    for token, credentials in (("token-2", temporary), (None, temporary), ("token-1", None)):
        other = sign("GET", "http://h/b/k", {}, token=token, presign=presign)
        error = refusal(make_verifier(NOW, credentials=credentials), make_request("GET", *other))
        assert error.code is ErrorCode.INVALID_TOKEN


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=", ErrorCode.INVALID_REQUEST),
        ("AWS4-ECDSA-P256-SHA256 Credential=a, SignedHeaders=host, Signature=b", ErrorCode.NOT_IMPLEMENTED),
        ("Bearer abc", ErrorCode.INVALID_ARGUMENT),
        ("", ErrorCode.INVALID_ARGUMENT),
        ("AWS4-HMAC-SHA256", ErrorCode.AUTHORIZATION_HEADER_MALFORMED),
        ("AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/s3/aws4_request", ErrorCode.AUTHORIZATION_HEADER_MALFORMED),
        ("AWS4-HMAC-SHA256 Signature=\xff, Credential=a, SignedHeaders=b", ErrorCode.AUTHORIZATION_HEADER_MALFORMED),
    ],
)
def test_other_schemes_are_refused_by_name(make_request, make_verifier, text, code):
    """Version 2, 4A, unknown schemes and malformed headers each get their own refusal, never anonymity."""
    assert refusal(make_verifier(NOW), make_request("GET", "/b/k", {"host": "h", "authorization": text})).code is code


def test_requests_without_credentials_are_anonymous(make_request, make_verifier):
    """No credential of any kind: an anonymous caller, who cannot sign chunks."""
    verifier = make_verifier(NOW)
    caller = verifier.verify(make_request("GET", "/b/k", {"host": "h"}))
    assert (caller.anonymous, caller.account, caller.payload) == (True, "", Unsigned())
    signed = {"host": "h", "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    assert refusal(verifier, make_request("PUT", "/b/k", signed)).code is ErrorCode.INVALID_REQUEST


def test_repeated_security_headers_are_refused(make_request, make_verifier):
    """A second Authorization, Host or x-amz-date cannot be joined into anything trustworthy."""
    target, headers = sign("GET", "http://h/b/k", {})
    for name in ("authorization", "host", "x-amz-date", "x-amz-content-sha256"):
        request = make_request("GET", target, headers, repeated=frozenset({name}))
        assert refusal(make_verifier(NOW), request).code is ErrorCode.INVALID_REQUEST


def test_a_revoked_or_changed_credential_is_not_served_from_the_cache(make_request, make_verifier, credential):
    """Scopes are cached only as long as the credential source says the same."""
    known = {ACCESS: credential}
    verifier = make_verifier(NOW, credentials=known)
    target, headers = sign("GET", "http://h/b/k", {})
    verifier.verify(make_request("GET", target, headers))
    known[ACCESS] = Credential(ACCESS, "another", "123456789012")
    assert refusal(verifier, make_request("GET", target, headers)).code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
    del known[ACCESS]
    assert refusal(verifier, make_request("GET", target, headers)).code is ErrorCode.INVALID_ACCESS_KEY_ID


def test_secrets_are_not_shown(credential):
    """Neither a credential nor a key says its secret when printed."""
    assert SECRET not in repr(credential)
    assert SECRET not in str(credential)


FUZZED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([0, 600]), st.integers(0, 12), FUZZED, st.data())
def test_no_request_does_worse_than_being_refused(make_request, make_verifier, presign, position, text, data):
    """Any text in any field of either form ends in a caller or in Refused, never in another exception."""
    target, headers = sign("GET", "http://h/b/k", {"x-amz-meta-a": "1"}, presign=presign)
    wire = text.encode().decode("latin-1")
    if presign:
        path, _, query = target.partition("?")
        pieces = query.split("&")
        name = pieces[position % len(pieces)].partition("=")[0]
        pieces[position % len(pieces)] = f"{name}={quote(text)}"
        target = f"{path}?" + "&".join([*pieces, f"X-Amz-Content-Sha256={quote(text)}"][: data.draw(st.integers(5, 9))])
    else:
        fields = headers["authorization"].split(" ")
        at = position % (len(fields) + 2)
        if at < len(fields):
            head = fields[at].partition("=")[0]
            fields[at] = data.draw(st.sampled_from([wire, f"{head}={wire},", f"{head}={wire}"]))
            headers["authorization"] = " ".join(fields)
        else:
            headers[data.draw(st.sampled_from(["x-amz-date", "date", "x-amz-security-token", "x-amz-meta-a"]))] = wire
    try:
        caller = make_verifier(NOW).verify(make_request("GET", target, headers))
    except Refused:
        return
    assert not caller.anonymous


def test_presigned_fields_outside_latin_1_are_refused(make_request, make_verifier):
    """Signed header names and payload hashes of other alphabets do not break the canonical request."""
    target, headers = sign("GET", "http://h/b/k", {}, presign=600)
    for other in (
        target.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host%3B%E4%B8%AD"),
        target + "&X-Amz-Content-Sha256=%E4%B8%AD",
    ):
        error = refusal(make_verifier(NOW), make_request("GET", other, headers))
        assert error.code is ErrorCode.AUTHORIZATION_QUERY_PARAMETERS_ERROR
