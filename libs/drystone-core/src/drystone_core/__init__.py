# SPDX-License-Identifier: Apache-2.0
"""Pure parts: ids, errors, formats, stripe arithmetic, placement, ports. No I/O, no clock, no randomness."""
