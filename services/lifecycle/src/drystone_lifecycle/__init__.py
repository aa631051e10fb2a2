# SPDX-License-Identifier: Apache-2.0
"""Decides what is dead and may be freed (rules, tiers and archive come later)."""
