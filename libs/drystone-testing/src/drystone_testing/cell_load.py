# SPDX-License-Identifier: Apache-2.0
"""Load on a whole cell through all its gateways, compared with the model at every one of them when it has ended."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drystone_testing.cluster import Cluster
from drystone_testing.load import Load

LEASE = 4.0
"""Seconds after which a silent process counts as gone (Shape.session)."""


@contextmanager
def loaded(cell: Cluster, bucket: str, *, writers: int = 4, **options: object) -> Iterator[Load]:
    """Writers at every gateway; afterwards all gateways must show what the model says."""
    load = Load(cell.s3_ports, bucket, writers=writers, **options)  # type: ignore[arg-type]
    load.start()
    time.sleep(1.0)
    try:
        yield load
    finally:
        load.finish()
    cell.heal()
    verify(cell, load)


def verify(cell: Cluster, load: Load) -> None:
    """Through each gateway."""
    for port in cell.s3_ports:
        load.verify(port)


def progress(load: Load, *, within: float = 30.0) -> None:
    """Somebody's write is acknowledged from now on, before `within` seconds are over."""
    before, until = load.acknowledged, time.monotonic() + within
    while load.acknowledged <= before + len(load.writers):
        assert time.monotonic() < until, f"no write was acknowledged for {within:g} s"
        time.sleep(0.05)


def await_true(true: Callable[[], bool], what: Callable[[], object], *, within: float = 90.0) -> None:
    """AssertionError with `what()` when it is not true in time."""
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until, what()
        time.sleep(0.3)
