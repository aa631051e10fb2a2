# SPDX-License-Identifier: Apache-2.0
"""Limits and times of the metadata service."""

from dataclasses import dataclass

from drystone_runtime import config_sections


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataSettings:
    """Built once at start."""

    batch_count: int = 512
    """Mutations in one commit."""
    batch_bytes: int = 1024 * 1024
    """Row bytes after which a batch is closed."""
    queue_count: int = 4096
    """Mutations waiting; beyond it callers get Busy."""
    floor_age: float = 24 * 3600.0
    """Seconds that the floor (R7) lies behind now."""
    floor_step: float = 1.0
    """The floor is raised when it would rise by this many seconds."""
    window: float = 15 * 60.0
    """Seconds a write id is remembered (R1)."""
    remembered: int = 7_000_000
    """Write ids remembered at most (18 bytes each): the whole window at 7,700 mutations a second."""
    clock_gap: float = 366 * 86400.0
    """Seconds the wall clock may be ahead of the last commit before blobs stamped by it are refused."""
    attempts: int = 8
    """Decisions of one batch before its callers get Unavailable."""
    feed_page: int = 1024
    """Feed records read at once at take-over."""
    cached_rows: int = 4096
    """Decoded object rows kept."""
    feed_bytes: int = 1 << 30
    """The change feed is trimmed beyond so many bytes (never what `window` needs)."""
    feed_age: float = 7 * 86400.0
    """Seconds after which a feed record goes; a consumer that lags more must resync."""
    feed_interval: float = 10.0
    """Seconds between looks at the feed's bounds."""
    upkeep_pause: float = 0.5
    """Seconds between pieces of upkeep."""
    sweep_rows: int = 256
    """Rows looked at between two pauses of a sweep."""
    sweep_after: float = 60.0
    """Seconds from the start (or a failure) to a sweep for rows nobody can reach."""
    sweep_interval: float = 3600.0
    """Seconds from the end of a sweep to the next."""
    upload_looks: float = 1800.0
    """Seconds from the end of a look at all internal uploads to the next; the first is `sweep_after` the start."""
    upload_silence: float = 3 * 3600.0
    """Seconds after which an internal upload that nobody renewed is ended: many times the gateways' `renew_seconds`."""
    split_rows: int = 100_000
    """Object rows of a tablet above which it is split …"""
    split_bytes: int = 64 << 20
    """… or bytes of them, keys and values."""
    size_looks: float = 60.0
    """Seconds between two looks whether a tablet should be split, or joined with its neighbour."""
    fill_rows: int = 512
    """Rows copied at once from one tablet to another …"""
    fill_bytes: int = 512 * 1024
    """… or bytes of them."""


def chosen(section: config_sections.MetadataSettings) -> MetadataSettings:
    """The service's own settings from what was configured."""
    return MetadataSettings(
        window=section.retry_window,
        feed_bytes=section.feed_size,
        feed_age=section.feed_age,
        feed_interval=min(10.0, section.feed_age / 8),
        split_rows=section.tablet_rows,
        split_bytes=section.tablet_size,
        size_looks=min(60.0, section.tablet_rows / 1000),  # small ones fill sooner
    )
