# SPDX-License-Identifier: Apache-2.0
"""The distributed cell: a tablet is a partition of a Cassandra keyspace, a group commit one conditional batch."""

from drystone_metadata.store.cassandra.opening import OpenCell as OpenCell
from drystone_metadata.store.cassandra.opening import check_identity as check_identity
from drystone_metadata.store.cassandra.opening import open_cell as open_cell
from drystone_metadata.store.cassandra.settings import CassandraSettings as CassandraSettings
from drystone_metadata.store.cassandra.storage import CassandraStorage as CassandraStorage
