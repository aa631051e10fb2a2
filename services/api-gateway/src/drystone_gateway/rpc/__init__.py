# SPDX-License-Identifier: Apache-2.0
"""The operator's view over gRPC, the server's side (the client's is drystone_runtime.rpc.admin_client)."""
