# SPDX-License-Identifier: Apache-2.0
"""MetadataService over gRPC, the server's side (the client's is drystone_runtime.rpc.metadata_client)."""
