# SPDX-License-Identifier: Apache-2.0
"""The error table and the error document (s3-surface §5 #12, #18 to #20)."""

import botocore.parsers
import botocore.session
import pytest

from drystone_core.errors import Busy, Damaged, ErrorCode, Refused, Stale, Unavailable
from drystone_gateway.s3.errors import ERRORS, error_head, render_error, status_of

SHAPE = botocore.session.get_session().get_service_model("s3").operation_model("GetObject").output_shape


def render(error, **options):
    return render_error(request_id="0123456789ABCDEF", host_id="aG9zdA==", error=error, **options)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_row_that_botocore_reads(code):
    """The table is total; status and code reach the client as botocore parses them."""
    row = ERRORS[code]
    status, body = render(code, resource="/b/k")
    assert status == row.status
    assert 300 <= status < 600
    if status == 304:
        assert body == b""
        return
    parsed = botocore.parsers.RestXMLParser().parse({"status_code": status, "headers": {}, "body": body}, SHAPE)
    assert parsed["Error"]["Code"] == row.code
    assert parsed["Error"]["Message"] == row.message
    assert b"<RequestId>0123456789ABCDEF</RequestId>" in body
    assert b"xmlns" not in body


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.SLOW_DOWN, 503),
        (ErrorCode.INSUFFICIENT_STORAGE, 507),
        (ErrorCode.PRECONDITION_FAILED, 412),
        (ErrorCode.NO_SUCH_KEY, 404),
        (ErrorCode.CONDITIONAL_REQUEST_CONFLICT, 409),
        (ErrorCode.MISSING_CONTENT_LENGTH, 411),
        (ErrorCode.METHOD_NOT_ALLOWED, 405),
        (ErrorCode.INVALID_RANGE, 416),
        (ErrorCode.INVALID_PART_NUMBER, 416),
        (ErrorCode.NOT_IMPLEMENTED, 501),
        (ErrorCode.REQUEST_TIMEOUT, 400),
    ],
)
def test_statuses_that_clients_act_upon(code, status):
    """Retries, conditional loops and range readers depend on these numbers."""
    assert status_of(code) == status


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (Damaged("disk 7 at 0x40", disk="7"), "InternalError"),
        (Stale("head moved", tablet="x"), "ServiceUnavailable"),
        (Unavailable("node a", code=ErrorCode.DEADLINE_EXCEEDED), "SlowDown"),
        (ValueError("secret"), "InternalError"),
        (Busy("pool"), "SlowDown"),
    ],
)
def test_inner_errors_say_nothing_of_the_inside(error, name):
    """Codes of the cell, and foreign exceptions, show neither message nor details."""
    _, body = render(error)
    assert f"<Code>{name}</Code>".encode() in body
    for word in (b"0x40", b"head moved", b"tablet", b"secret", b"node a"):
        assert word not in body


def test_pitfall_19_details_become_elements_and_are_escaped():
    """Element order, escaping, and the resource as sent."""
    error = Refused(ErrorCode.NO_SUCH_KEY, Key="a<b>&\x01")
    _, body = render(error, resource="/b/a<b")
    assert body == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        b"<Message>The specified key does not exist.</Message><Key>a&lt;b&gt;&amp;&#1;</Key>"
        b"<Resource>/b/a&lt;b</Resource><RequestId>0123456789ABCDEF</RequestId><HostId>aG9zdA==</HostId></Error>"
    )


def test_pitfall_20_head_errors_have_no_body():
    """HEAD gets the status alone."""
    assert render(ErrorCode.NO_SUCH_KEY, head=True) == (404, b"")


def test_error_heads_carry_what_belongs_to_the_status():
    """Retry-After with 503, Allow with 405, Content-Range with 416; nothing unsafe gets in."""
    assert b"Retry-After: 1\r\n" in error_head(Busy())
    assert b"Retry-After" not in error_head(Refused(ErrorCode.INSUFFICIENT_STORAGE))
    assert b"Allow: DELETE\r\n" in error_head(Refused(ErrorCode.METHOD_NOT_ALLOWED, Allow="DELETE"))
    assert b"Allow" not in error_head(Refused(ErrorCode.METHOD_NOT_ALLOWED, Allow="X\r\nEvil: 1"))
    assert b"Content-Range: bytes */5\r\n" in error_head(Refused(ErrorCode.INVALID_RANGE, ActualObjectSize="5"))
    assert error_head(ErrorCode.NOT_MODIFIED) == b""
    wrong_region = Refused(ErrorCode.AUTHORIZATION_HEADER_MALFORMED, Region="eu-west-1")
    assert b"x-amz-bucket-region: eu-west-1\r\n" in error_head(wrong_region)
    assert b"region" not in error_head(Refused(ErrorCode.ACCESS_DENIED, Region="x\r\nEvil: 1"))
