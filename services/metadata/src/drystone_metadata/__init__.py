# SPDX-License-Identifier: Apache-2.0
"""Buckets, versions, listings, uploads and the change feed: pure logic over tablet storages."""
