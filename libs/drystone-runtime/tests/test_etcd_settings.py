# SPDX-License-Identifier: Apache-2.0
"""How etcd is reached: every problem of the settings is told; every error of etcd has a meaning."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from drystone_core.errors import Busy, DrystoneError, ErrorCode, Refused, Stale, Unavailable, Unreachable
from drystone_runtime.config_cell import EtcdSettings
from drystone_runtime.coordination.etcd_calls import Verdict, judge, meaning

GOOD = EtcdSettings(endpoints=("etcd-0.etcd:2379", "[::1]:2379"))


def test_sound_settings_have_no_problem(tmp_path: Path) -> None:
    """With names, numbers, a user and TLS."""
    for name in ("password", "ca", "cert", "key"):
        (tmp_path / name).write_text("x")
    full = replace(
        GOOD,
        user="drystone",
        password_file=str(tmp_path / "password"),
        tls_ca=str(tmp_path / "ca"),
        tls_cert=str(tmp_path / "cert"),
        tls_key=str(tmp_path / "key"),
    )
    assert GOOD.problems() == [] and full.problems() == [] and EtcdSettings().problems() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"endpoints": ("etcd",)}, "coordinator.endpoints: 'etcd' is not HOST:PORT"),
        ({"endpoints": ("a:1", "a:1")}, "names one twice"),
        ({"prefix": "/drystone"}, "coordinator.prefix: ends with a slash"),
        ({"prefix": ""}, "coordinator.prefix: ends with a slash"),
        ({"user": "u"}, "user and password_file go together"),
        ({"tls_cert": "/nowhere"}, "tls_cert and tls_key go together"),
        ({"tls_cert": "/nowhere", "tls_key": "/nowhere"}, "coordinator.tls_ca: needed"),
        ({"tls_ca": "/nowhere"}, "coordinator.tls_ca: /nowhere cannot be read"),
        ({"timeout": 0.1}, "coordinator.timeout: at least 500ms"),
        ({"session": 1.0}, "coordinator.session: at least 2s"),
        ({"progress": 0.01}, "coordinator.progress: at least 100ms"),
    ],
)
def test_each_problem_is_told(wrong: dict[str, Any], words: str) -> None:
    """In a sentence that begins with the setting."""
    assert any(words in problem for problem in replace(GOOD, **wrong).problems())


S = grpc.StatusCode
ERRORS = [
    (S.UNAVAILABLE, "etcdserver: no leader", Verdict.UNSENT, Unreachable, ErrorCode.SERVICE_UNAVAILABLE),
    (S.UNAVAILABLE, "etcdserver: leader changed", Verdict.UNKNOWN, Unavailable, ErrorCode.SERVICE_UNAVAILABLE),
    (S.UNAVAILABLE, "etcdserver: request timed out", Verdict.UNKNOWN, Unavailable, ErrorCode.SERVICE_UNAVAILABLE),
    (S.UNAVAILABLE, "Socket closed", Verdict.UNKNOWN, Unavailable, ErrorCode.SERVICE_UNAVAILABLE),
    (S.DEADLINE_EXCEEDED, "", Verdict.UNKNOWN, Unavailable, ErrorCode.DEADLINE_EXCEEDED),
    (S.INTERNAL, "Received RST_STREAM", Verdict.UNKNOWN, Unavailable, ErrorCode.SERVICE_UNAVAILABLE),
    (S.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Verdict.UNSENT, Busy, ErrorCode.SLOW_DOWN),
    (
        S.RESOURCE_EXHAUSTED,
        "etcdserver: mvcc: database space exceeded",
        Verdict.FINAL,
        Unavailable,
        ErrorCode.SERVICE_UNAVAILABLE,
    ),
    (S.NOT_FOUND, "etcdserver: requested lease not found", Verdict.FINAL, Stale, ErrorCode.FENCED),
    (S.UNAUTHENTICATED, "etcdserver: invalid auth token", Verdict.TOKEN, Refused, ErrorCode.ACCESS_DENIED),
    (S.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", Verdict.TOKEN, Refused, ErrorCode.ACCESS_DENIED),
    (S.INVALID_ARGUMENT, "etcdserver: user name is empty", Verdict.TOKEN, Refused, ErrorCode.ACCESS_DENIED),
    (S.PERMISSION_DENIED, "etcdserver: permission denied", Verdict.FINAL, Refused, ErrorCode.ACCESS_DENIED),
    (
        S.INVALID_ARGUMENT,
        "etcdserver: authentication failed, invalid user ID or password",
        Verdict.FINAL,
        Refused,
        ErrorCode.ACCESS_DENIED,
    ),
    (S.INVALID_ARGUMENT, "etcdserver: request is too large", Verdict.FINAL, Refused, ErrorCode.ENTITY_TOO_LARGE),
    (S.UNIMPLEMENTED, "unknown service", Verdict.FINAL, DrystoneError, ErrorCode.INTERNAL_ERROR),
]


@pytest.mark.parametrize(("status", "words", "verdict", "kind", "code"), ERRORS)
def test_every_error_of_etcd_has_a_meaning(
    status: grpc.StatusCode, words: str, verdict: Verdict, kind: type[DrystoneError], code: ErrorCode
) -> None:
    """What to do, and what the caller is told."""
    error = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), details=words)
    told = meaning(error, where="etcd-0:2379")
    assert judge(error) is verdict and type(told) is kind and told.code is code
    assert code is ErrorCode.FENCED or "etcd" in told.message
