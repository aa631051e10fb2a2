# SPDX-License-Identifier: Apache-2.0
"""The tablets of a cell: where each key is, how ranges move between tablets, and buckets that stand in several."""
