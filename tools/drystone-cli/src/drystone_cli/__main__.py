# SPDX-License-Identifier: Apache-2.0
"""`python -m drystone_cli` is the drystone command."""

from drystone_cli.main import main

if __name__ == "__main__":
    main()
