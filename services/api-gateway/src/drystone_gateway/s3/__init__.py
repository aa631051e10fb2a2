# SPDX-License-Identifier: Apache-2.0
"""The S3 protocol without I/O: routing, signatures, documents, conditions, checksums. Clocks come from the caller.

    call = router.route(request)             route.S3Call: operation, bucket, key, query, headers
    caller = verifier.verify(request)        sigv4.Caller: account, payload mode
    check_acceptable(call.headers, call.operation)
Everything a client can be refused for is raised as `drystone_core.errors.Refused`; `errors.render_error` shows it.
"""
