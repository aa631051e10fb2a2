# SPDX-License-Identifier: Apache-2.0
"""A storage node over gRPC, the server's side (the client's is drystone_runtime.rpc.storage_client)."""
