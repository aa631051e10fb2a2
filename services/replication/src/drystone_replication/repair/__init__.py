# SPDX-License-Identifier: Apache-2.0
"""Repair: lost and damaged slots of volumes are rebuilt from the others, the most endangered first."""

from drystone_replication.repair.plan import order
from drystone_replication.repair.repairer import Repairer, RepairProgress, RepairSettings
from drystone_replication.repair.scrubber import Scrubber, ScrubSettings

__all__ = ["RepairProgress", "RepairSettings", "Repairer", "ScrubSettings", "Scrubber", "order"]
