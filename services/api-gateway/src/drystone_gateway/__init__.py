# SPDX-License-Identifier: Apache-2.0
"""S3 REST over HTTP: authentication, S3 semantics, streaming to and from storage."""
