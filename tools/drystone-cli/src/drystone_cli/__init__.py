# SPDX-License-Identifier: Apache-2.0
"""The drystone command."""

VERSION = "0.1.0"
