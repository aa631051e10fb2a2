# SPDX-License-Identifier: Apache-2.0
"""Answers all operations share: documents, nothing, and the error document."""

from drystone_gateway.http.messages import Request, Response
from drystone_gateway.s3.errors import error_head, render_error
from drystone_gateway.s3.xml_out import CONTENT_TYPE


def xml_answer(document: bytes, head: bytes = b"") -> Response:
    """200 with an XML document."""
    return Response(200, head + CONTENT_TYPE, document)


def no_content(head: bytes = b"") -> Response:
    """204."""
    return Response(204, head)


def error_response(request: Request, error: BaseException, extra: bytes = b"") -> Response:
    """The S3 error document for a failure, with `extra` header lines; HEAD gets the status alone."""
    status, body = render_error(
        request_id=request.request_id,
        host_id=request.host_id,
        error=error,
        resource=request.path,
        head=request.method == "HEAD",
    )
    return Response(status, extra + error_head(error), body)
