# SPDX-License-Identifier: Apache-2.0
"""For all tests: no example of a property is judged by how long this machine took for it."""

from hypothesis import settings

settings.register_profile("drystone", deadline=None)
settings.load_profile("drystone")
