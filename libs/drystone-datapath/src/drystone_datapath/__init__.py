# SPDX-License-Identifier: Apache-2.0
"""Bytes to fragments and back: codec, pack, append, read, rebuild."""
