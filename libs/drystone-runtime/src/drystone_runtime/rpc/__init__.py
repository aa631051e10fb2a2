# SPDX-License-Identifier: Apache-2.0
"""gRPC plumbing: servers, channels, the one mapping of errors, batching, and values to and from messages."""
