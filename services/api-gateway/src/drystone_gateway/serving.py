# SPDX-License-Identifier: Apache-2.0
"""S3 as a process serves it: the gateway behind its HTTP server, with its certificate; the same alone and in a cell."""

import asyncio

from drystone_core.cell import GatewayStatus
from drystone_core.errors import ErrorCode, Refused
from drystone_core.ports import Clock, Entropy
from drystone_core.services import MetadataService, StorageService
from drystone_gateway.access_log import access_log
from drystone_gateway.app import Links, World, build
from drystone_gateway.credentials import root_credentials
from drystone_gateway.http.server import HttpServer, Listener
from drystone_gateway.http.shared import HttpSettings
from drystone_gateway.http.tls import TlsFiles, TlsReloader
from drystone_gateway.operations.answers import error_response
from drystone_gateway.operations.hash_pool import ThreadHashPool
from drystone_gateway.settings import GatewaySettings
from drystone_runtime.background import Background
from drystone_runtime.config_sections import RootSettings, Settings

HASH_THREADS = 2
CERTIFICATE_SECONDS = 5.0
"""Between two looks whether the certificate's files changed; SIGHUP looks at once."""


class S3Serving:
    """`start()` once, then `drain()` once."""

    def __init__(
        self,
        *,
        settings: Settings,
        root: RootSettings,
        metadata: MetadataService,
        storage: StorageService,
        clock: Clock,
        entropy: Entropy,
        background: Background,
    ) -> None:
        """Refused when the certificate cannot be used."""
        server = settings.server
        self._background, self._clock = background, clock
        self._hashing = ThreadHashPool(threads=HASH_THREADS)
        self.app = build(
            GatewaySettings(
                region=server.region,
                account=server.account,
                domains=server.domains,
                presigned_v2=server.presigned_v2,
                unsigned_needs_tls=server.unsigned_needs_tls,
                classes=settings.storage.storage_classes(),
            ),
            World(clock=clock, entropy=entropy, hashing=self._hashing),
            Links(
                metadata=metadata,
                storage=storage,
                credentials=root_credentials(
                    access_key=root.access_key, secret_key=root.secret_key, account=server.account
                ),
            ),
        )
        self._http = HttpServer(
            handler=self.app.handle,
            render_error=error_response,
            settings=HttpSettings(),
            clock=clock,
            entropy=entropy,
            access_log=access_log(settings.log.access, domains=server.domains),
        )
        self._tls = _certificate(server.tls_cert, server.tls_key) if server.tls_cert else None

    async def start(self, listener: Listener) -> None:
        """Serve what comes to the listening socket."""
        self._background.keep("gateway.renew", self.app.renewals.run)
        if self._tls is not None:
            self._background.keep("tls.watch", self._watch_certificate)
        await self._http.start(sockets=(listener,), tls=self._tls.context if self._tls else None)

    async def reload(self) -> None:
        """Read the certificate's files again if they changed."""
        if self._tls is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._tls.check)

    async def drain(self, deadline: float) -> int:
        """Take no more requests, finish those under way by then (monotonic); how many were cut off."""
        return await self._http.drain(deadline)

    def stop(self) -> None:
        """After everything that hashes has ended."""
        self._hashing.stop()

    def status(self) -> GatewayStatus:
        """What was answered since the start."""
        stats = self._http.stats
        return GatewayStatus(
            connections=stats.connections,
            requests_now=stats.in_flight,
            connections_total=stats.connections_total,
            requests=stats.requests,
            answers_4xx=stats.answers_4xx,
            answers_5xx=stats.answers_5xx,
            answers_503=stats.answers_503,
            bytes_in=stats.bytes_in,
            bytes_out=stats.bytes_out,
            refused_connections=stats.refused_connections,
            refused_requests=stats.slow_downs,
            refused_bodies=self.app.refused_bodies,
            refused_heads=stats.refused_heads,
            slow_clients=stats.timeouts,
            broken_answers=stats.aborted,
            failures=stats.errors,
        )

    async def _watch_certificate(self) -> None:
        while True:
            await self._clock.sleep(CERTIFICATE_SECONDS)
            await self.reload()


def _certificate(cert: str, key: str) -> TlsReloader:
    try:
        return TlsReloader(TlsFiles(certificate=cert, key=key))
    except OSError as error:  # ssl.SSLError is one
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"the certificate {cert} with the key {key} cannot be used ({error}): give PEM files that belong together",
        ) from error
