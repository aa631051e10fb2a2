# SPDX-License-Identifier: Apache-2.0
"""The world: clock, entropy, disks, configuration, RPC plumbing, telemetry, supervision."""
