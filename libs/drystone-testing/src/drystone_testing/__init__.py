# SPDX-License-Identifier: Apache-2.0
"""Simulation, contract suites, fault wrappers and process starters; used by tests only."""
