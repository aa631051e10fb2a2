# SPDX-License-Identifier: Apache-2.0
"""Disks and volumes: append, read, close, scan, rebuild, free."""
