# SPDX-License-Identifier: Apache-2.0
"""Signature Version 4 for the few requests the command line sends. Source: AWS, "Authenticating Requests (AWS Signature
Version 4)". Paths are plain ASCII and have no query."""

import hashlib
import hmac
import time


class Signer:
    """Signs requests of one credential."""

    def __init__(self, *, access_key: str, secret_key: str, region: str) -> None:
        self._access, self._secret, self._region = access_key, secret_key, region
        self._day, self._key = "", b""

    def headers(self, method: str, path: str, host: str, body: bytes) -> dict[str, str]:
        """All headers the signature covers, and the signature."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(body).hexdigest()
        signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._signing_key(stamp[:8]), text.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={self._access}/{scope}"
        return {**signed, "authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}

    def _signing_key(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self._secret}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._key = day, key
        return self._key
