# SPDX-License-Identifier: Apache-2.0
"""Profiles: k, m and code of a volume, chosen once at initialisation from the number of disks and stored."""

from dataclasses import dataclass

from drystone_core.check import check

CODE = "isa_l_rs_cauchy"
"""The erasure code of all profiles; `isa_l_rs_vand` cannot decode some survivor sets when m >= 5."""
DATA_LIMIT = 20
"""Most data fragments of a profile."""
PARITY_LIMIT = 8
"""Most parity fragments of a profile."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How a volume is coded: any k of its k+m fragments suffice to read."""

    k: int
    """Data fragments, 1 … DATA_LIMIT."""
    m: int
    """Parity fragments = disks that may be lost, 0 … PARITY_LIMIT."""

    def __post_init__(self) -> None:
        check(1 <= self.k <= DATA_LIMIT and 0 <= self.m <= PARITY_LIMIT, f"profile out of range: {self.k}+{self.m}")

    @property
    def slots(self) -> int:
        """k+m."""
        return self.k + self.m

    @property
    def name(self) -> str:
        """As in the configuration: `rs-4-2`, or `none` for a single copy."""
        return f"rs-{self.k}-{self.m}" if self.m else "none"

    @classmethod
    def parse(cls, text: str) -> "Profile":
        """The profile named `rs-K-M` or `none`; ValueError with what is allowed otherwise."""
        if text == "none":
            return cls(1, 0)
        parts = text.split("-")
        if len(parts) == 3 and parts[0] == "rs" and parts[1].isdecimal() and parts[2].isdecimal():
            k, m = int(parts[1]), int(parts[2])
            if 1 <= k <= DATA_LIMIT and 1 <= m <= PARITY_LIMIT:
                return cls(k, m)
        raise ValueError(
            f"profile {text!r}: expected 'rs-K-M' with K in 1…{DATA_LIMIT} and M in 1…{PARITY_LIMIT}, or 'none'"
        )


def default_profile(disks: int) -> Profile:
    """The profile for a new store of `disks` disks; ValueError for one disk (a single copy must be asked for)."""
    if disks < 2:
        raise ValueError("one disk can hold only a single copy: give more disks, or --profile none to accept that")
    for least, k, m in ((14, 10, 4), (11, 8, 3), (6, 4, 2), (5, 3, 2), (4, 2, 2), (3, 2, 1)):
        if disks >= least:
            return Profile(k, m)
    return Profile(1, 1)


def degraded_profile(profile: Profile, healthy: int) -> Profile | None:
    """What new volumes use while only `healthy` disks are: same m, smaller k; None when fewer than m+1 are healthy."""
    if healthy >= profile.slots:
        return profile
    if healthy < profile.m + 1:
        return None
    return Profile(healthy - profile.m, profile.m)
