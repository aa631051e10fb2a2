# SPDX-License-Identifier: Apache-2.0
"""Placement and repair inside a cell (cross-region and events come later)."""
