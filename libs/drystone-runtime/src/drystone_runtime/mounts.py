# SPDX-License-Identifier: Apache-2.0
"""Which directories are mount points.

A bind mount of a directory of the same file system has the device number of its parent, so that comparing those
(os.path.ismount) does not see it; the kernel's list does. Source: proc(5), /proc/pid/mountinfo: fields are separated by
spaces, the fifth is the mount point, in which space, tab, newline and backslash stand as three octal digits.
"""

import os
import re

MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(rb"\\([0-7]{3})")


def is_mount_point(path: str, *, mountinfo: str = MOUNTINFO) -> bool:
    """Is something mounted exactly there? Where the kernel has no list, device numbers decide. Raises no OSError."""
    try:
        with open(mountinfo, "rb") as file:
            listed = mount_points(file.read())
    except OSError:
        return os.path.ismount(path)
    return os.fsencode(os.path.realpath(path)) in listed


def mount_points(text: bytes) -> frozenset[bytes]:
    """All mount points of a mountinfo file."""
    found = (line.split(b" ", 5) for line in text.splitlines())
    return frozenset(_OCTAL.sub(_byte, fields[4]) for fields in found if len(fields) > 5)


def _byte(match: "re.Match[bytes]") -> bytes:
    return bytes((int(match[1], 8),))
