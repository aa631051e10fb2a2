# SPDX-License-Identifier: Apache-2.0
"""Reclaim: space of dead blobs is given back, after a grace period, and never of a live one."""

from drystone_lifecycle.reclaim.reclaimer import Reclaimer, ReclaimProgress, ReclaimSettings

__all__ = ["ReclaimProgress", "ReclaimSettings", "Reclaimer"]
