# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on asyncio.BufferedProtocol; knows nothing of S3."""
