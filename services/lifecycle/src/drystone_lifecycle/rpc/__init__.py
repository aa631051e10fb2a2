# SPDX-License-Identifier: Apache-2.0
"""The lifecycle service over gRPC, the server's side."""
