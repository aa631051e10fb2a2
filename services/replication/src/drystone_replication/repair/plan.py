# SPDX-License-Identifier: Apache-2.0
"""In which order wounds are healed. Pure."""

from collections.abc import Sequence

from drystone_core.upkeep import Wound


def order(wounds: Sequence[Wound]) -> list[Wound]:
    """Fewest surviving fragments first, then small ones (they are whole again soonest); hopeless ones are left out."""
    return sorted(
        (wound for wound in wounds if wound.spare >= 0),
        key=lambda wound: (wound.spare, wound.size, wound.volume, wound.slot),
    )
