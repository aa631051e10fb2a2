# SPDX-License-Identifier: Apache-2.0
"""Lines of gRPC's core become events, seldom; a dying process's last words get through."""

import subprocess
import sys

import pytest

from drystone_runtime.rpc.core_lines import CoreLines
from drystone_testing.sim_world import LeapingClock

HEAD = "I1124 18:56:52.076746    2838 ssl_transport_security.cc:2563] "
FAILED = HEAD + "Handshake failed with error SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
EXPIRED = "CERTIFICATE_VERIFY_FAILED: certificate has expired"


async def test_a_reason_is_told_once_an_interval_and_the_rest_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever knocks a thousand times costs two lines."""
    clock, through = LeapingClock(), list[str]()
    lines = CoreLines(clock=clock, through=through.append)
    for _ in range(1000):
        lines.take(FAILED + EXPIRED)
    lines.take(FAILED + "PEER_DID_NOT_RETURN_A_CERTIFICATE: x")
    await clock.sleep(11)
    lines.take(FAILED + EXPIRED)
    told = [(r.message, r.__dict__["reason"], r.__dict__["held_back"]) for r in caplog.records]
    assert told == [
        ("rpc.handshake_refused", EXPIRED, 0),
        ("rpc.handshake_refused", "PEER_DID_NOT_RETURN_A_CERTIFICATE: x", 0),
        ("rpc.handshake_refused", EXPIRED, 999),
    ]
    assert through == []


def test_other_lines_are_told_by_severity(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings and errors are events, chatter is dropped, the fatal and the foreign go through."""
    through = list[str]()
    lines = CoreLines(clock=LeapingClock(), through=through.append)
    lines.take(HEAD + "something happened")
    lines.take("E" + HEAD[1:] + "something failed")
    fatal, foreign = "F" + HEAD[1:] + "Check failed: x", "Fatal Python error: Aborted"
    lines.take(fatal)
    lines.take(foreign)
    assert [(r.message, r.__dict__["text"]) for r in caplog.records] == [("rpc.core", "something failed")]
    assert through == [fatal, foreign]


def test_the_last_words_of_a_process_that_aborts_get_through() -> None:
    """Written to descriptor 2 by a library, just before the end."""
    script = (
        "import os, sys\n"
        "from drystone_runtime.logs import configure\n"
        "from drystone_runtime.rpc.core_lines import divert\n"
        "divert(lambda stream: configure(level='info', style='json', role='x', stream=stream))\n"
        "print('by python', file=sys.stderr)\n"
        "os.write(2, b'F1124 18:56:52.076746    2838 core.cc:1] Check failed: true\\n')\n"
        "os.abort()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -6
    assert sorted(done.stderr.splitlines()) == [
        "F1124 18:56:52.076746    2838 core.cc:1] Check failed: true",
        "by python",
    ]
