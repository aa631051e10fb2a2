# SPDX-License-Identifier: Apache-2.0
"""The directories a store lies on: whose they are, which are missing, whether they still answer."""
