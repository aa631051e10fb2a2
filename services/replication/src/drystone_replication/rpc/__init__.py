# SPDX-License-Identifier: Apache-2.0
"""The replication service over gRPC, the server's side."""
