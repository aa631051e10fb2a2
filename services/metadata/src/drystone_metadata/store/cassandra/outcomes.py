# SPDX-License-Identifier: Apache-2.0
"""What a failure of the driver means: refused for certain, or unknown. Nothing else may be concluded from one.

Invariants
  O1  A statement is refused for certain only when the server says that the statement itself is wrong or not allowed.
  O2  Everything else (timeouts of either side, lost connections, too few replicas, an error in the middle of a round, an
      error this module does not know) leaves a conditional statement unknown: it may have gone in, or still may.
"""

from cassandra import AuthenticationFailed, DriverException, InvalidRequest, Unauthorized
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ErrorMessage, SyntaxException

from drystone_core.errors import Unavailable

FAILURES = (DriverException, ErrorMessage, NoHostAvailable, ConnectionException, OSError)
"""All that the driver raises for a statement."""
_REFUSALS = (InvalidRequest, SyntaxException, Unauthorized, AuthenticationFailed)


def refused(failure: BaseException) -> bool:
    """O1: whether the statement certainly had no effect and never will have."""
    return isinstance(failure, _REFUSALS)


def unavailable(failure: BaseException) -> Unavailable:
    """The failure in our own words."""
    if isinstance(failure, NoHostAvailable):
        causes = (
            "; ".join(sorted({_text(cause) for cause in failure.errors.values()})) if failure.errors else "none known"
        )
        return Unavailable(f"no Cassandra node can be asked: {causes}")
    if refused(failure):
        return Unavailable(f"Cassandra refuses: {_text(failure)}")
    return Unavailable(f"Cassandra did not answer: {_text(failure)}")


def _text(failure: BaseException) -> str:
    return f"{type(failure).__name__}: {failure}"[:300]
