# SPDX-License-Identifier: Apache-2.0
"""One contract suite per interface: every implementation of a port subclasses the suite and runs all of it."""
