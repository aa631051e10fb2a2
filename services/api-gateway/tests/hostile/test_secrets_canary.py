# SPDX-License-Identifier: Apache-2.0
"""A planted secret is looked for in everything the store says or writes."""

import time
from dataclasses import replace
from pathlib import Path

from drystone_testing.live import ACCESS_KEY, LiveStore
from drystone_testing.wire import MODES, Signer, Wire, WireClient

CANARY = "canary-secret-4f1c9a77b2e04d3c8a5e"
CUSTOMER_KEY = "Y2FuYXJ5LWN1c3RvbWVyLWtleS1vZi0zMi1ieXRlcy4="


def test_the_root_secret_appears_nowhere(tmp_path: Path) -> None:
    """Not in answers, logs at debug level, files, command lines or the status; nor signatures of URLs in the log."""
    environment = {"DRYSTONE_ROOT_SECRET_KEY": CANARY, "DRYSTONE_LOG_LEVEL": "debug", "DRYSTONE_LOG_ACCESS": "all"}
    said: list[bytes] = []
    urls: list[str] = []
    with LiveStore(tmp_path / "store", environment=environment, log=tmp_path / "serve.log") as store:
        client, now = WireClient(store.port), time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        signer = Signer(host=f"127.0.0.1:{store.port}", seconds=int(now), stamp=stamp, secret_key=CANARY)
        customer = {
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-server-side-encryption-customer-key": CUSTOMER_KEY,
        }
        wires = [
            Wire(method="PUT", path="/canary"),
            Wire(method="PUT", path="/canary/key", body=b"value"),
            Wire(method="PUT", path="/canary/key", headers=customer, body=b"value"),
            Wire(method="GET", path="/canary/key"),
            Wire(method="GET", path="/canary/absent"),
            Wire(method="GET", path="/canary/%zz"),
            Wire(method="POST", path="/canary", query="delete=", body=b"<Delete>"),
        ]
        for wire in wires:
            for mode in MODES:
                good = signer.sign(wire, mode)
                if mode.startswith("query"):
                    urls.append(good.query.rpartition("ignature=")[2])
                tampered = (good, replace(good, path=good.path + "x"), good.with_headers(host="other"))
                for request in (*tampered, good.with_headers(authorization=f"AWS {ACCESS_KEY}:{CANARY[:4]}")):
                    answer = client.send(request)
                    said.append(repr(answer.headers).encode() + answer.body)
        assert any(b"<Code>SignatureDoesNotMatch</Code>" in one for one in said)
        said += [repr(store.status()).encode(), *(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in store.pids())]
        said += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    log = (tmp_path / "serve.log").read_bytes()
    said.append(log)
    for secret in (CANARY, CUSTOMER_KEY):
        assert not [one[:300] for one in said if secret.encode() in one], secret
    assert b'"bucket": "canary", "key": "key"' in log
    assert not [text for text in urls if text.encode() in log]
