# SPDX-License-Identifier: Apache-2.0
"""What the operating system lets this process have."""

import resource

_ENOUGH = 262_144


def raise_open_files() -> int:
    """Raise the limit of open files as far as an ordinary process may; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return _ENOUGH if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most
