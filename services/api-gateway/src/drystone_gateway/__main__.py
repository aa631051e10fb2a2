# SPDX-License-Identifier: Apache-2.0
"""`python -m drystone_gateway`: not a process of its own yet, and says so.

Its clients of services elsewhere are there (`drystone_gateway.clients`), a composition root for them is not. It runs inside
`drystone serve`, which also serves its admin service.
"""

import sys

MESSAGE = """drystone gateway: it runs inside `drystone serve` in this release.
  next: drystone serve DIR (S3, and drystone.admin.v1.AdminService on STATE/admin.sock)"""


if __name__ == "__main__":
    print(MESSAGE, file=sys.stderr)
    sys.exit(2)
