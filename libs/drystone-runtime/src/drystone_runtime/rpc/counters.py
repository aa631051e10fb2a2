# SPDX-License-Identifier: Apache-2.0
"""Per method: calls, failures by code, how long they took. Plain numbers in this process; exporting them is another's task.

Counting costs about a microsecond a call. One thread (the loop's) writes; a reader on another may see a call half counted.
"""

from bisect import bisect_left
from dataclasses import dataclass

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, seconds; one more bucket holds what took longer."""
OK = "OK"


class MethodCounter:
    """One method."""

    __slots__ = ("buckets", "codes", "running", "seconds")

    def __init__(self) -> None:
        self.running = 0
        """Calls in progress."""
        self.codes: dict[str, int] = {}
        """Ended calls by the name of their gRPC status, `OK` included."""
        self.buckets = [0] * (len(BOUNDS) + 1)
        """Ended calls by duration."""
        self.seconds = 0.0
        """All ended calls together."""

    @property
    def calls(self) -> int:
        """Ended calls."""
        return sum(self.buckets)

    def begin(self) -> None:
        """A call begins; `end` must follow."""
        self.running += 1

    def end(self, code: str, seconds: float) -> None:
        """It ended, with this status."""
        self.running -= 1
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFigures:
    """A method's counter at one moment."""

    method: str
    """`/package.Service/Method`."""
    running: int
    codes: dict[str, int]
    buckets: tuple[int, ...]
    seconds: float


class RpcCounters:
    """All methods of one server, or of one process's clients. Methods come from descriptors, so there are few."""

    __slots__ = ("_methods",)

    def __init__(self) -> None:
        self._methods: dict[str, MethodCounter] = {}

    def of(self, method: str) -> MethodCounter:
        """The counter of one method."""
        counter = self._methods.get(method)
        if counter is None:
            counter = self._methods[method] = MethodCounter()
        return counter

    def figures(self) -> list[MethodFigures]:
        """Of all methods that were called, by name."""
        return [
            MethodFigures(
                method=method,
                running=one.running,
                codes=dict(one.codes),
                buckets=tuple(one.buckets),
                seconds=one.seconds,
            )
            for method, one in sorted(self._methods.items())
        ]
