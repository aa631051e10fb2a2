# SPDX-License-Identifier: Apache-2.0
"""Listings: pages of keys, versions, uploads and parts, read by scans that seek past what a page does not show."""
