# SPDX-License-Identifier: Apache-2.0
"""Which process should own a tablet, as one of them sees it."""

from collections.abc import Callable

from drystone_metadata.store.ports import TabletId


class Standing:
    """Callable: the name of the process that should own the tablet; None when nobody does, as far as this one may act on it.

    Who is not registered keeps what it owns (the coordinator may be away), and takes nothing, not even back: the others may
    have made another one the owner, and the two would take the tablet from each other for ever.
    """

    def __init__(
        self,
        *,
        name: str,
        ring: Callable[[TabletId], str | None],
        registered: Callable[[], bool],
        owns: Callable[[TabletId], bool],
    ) -> None:
        """`ring`: the owner by the registry as last known. `owns`: whether this process owns the tablet now."""
        self._name, self._ring, self._registered, self._owns = name, ring, registered, owns

    def __call__(self, tablet: TabletId) -> str | None:
        owner = self._ring(tablet)
        if owner == self._name and not self._registered() and not self._owns(tablet):
            return None
        return owner
