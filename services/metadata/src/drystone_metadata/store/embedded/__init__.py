# SPDX-License-Identifier: Apache-2.0
"""The embedded cell: one tablet on m+1 members, each a journal and an SQLite file."""

from drystone_metadata.store.embedded.storage import EmbeddedStorage as EmbeddedStorage
from drystone_metadata.store.embedded.units import EmbeddedSettings as EmbeddedSettings
from drystone_metadata.store.embedded.units import MemberUnit as MemberUnit
