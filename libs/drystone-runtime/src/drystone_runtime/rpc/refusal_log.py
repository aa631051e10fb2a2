# SPDX-License-Identifier: Apache-2.0
"""Says what is refused without letting whoever is refused fill the log: one line per reason and interval, the rest counted."""

import logging
from collections import OrderedDict

from drystone_core.ports import Clock

KEYS = 256
"""Reasons remembered at once; the oldest is forgotten first."""


class RefusalLog:
    """Owned by one server or one set of clients."""

    def __init__(self, *, clock: Clock, log: logging.Logger, every: float = 10.0) -> None:
        """`every`: seconds between two lines of one reason."""
        self._clock, self._log, self._every = clock, log, every
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def warn(self, event: str, key: str, **fields: object) -> None:
        """A line now, or one more in the count of the next line for this `key`."""
        now = self._clock.monotonic()
        since, held_back = self._seen.get(key, (now - self._every, 0))
        if now - since < self._every:
            self._seen[key] = since, held_back + 1
            return
        self._seen[key] = now, 0
        self._seen.move_to_end(key)
        if len(self._seen) > KEYS:
            self._seen.popitem(last=False)
        self._log.warning(event, extra={**fields, "held_back": held_back})
