# SPDX-License-Identifier: Apache-2.0
"""A storage node among others: its registration, the disks of its peers, and who owns which volume."""
