# SPDX-License-Identifier: Apache-2.0
"""How far a pass of scrubbing is, to and from messages."""

from drystone.common.v1 import scrub_pb2
from drystone_core.cell import ScrubPassStatus


def scrub_pass_message(value: ScrubPassStatus) -> scrub_pb2.ScrubPass:
    """To the wire."""
    return scrub_pb2.ScrubPass(
        running=value.running,
        began=value.began,
        finished=value.finished,
        next_begins=value.next_begins,
        volumes=value.volumes,
        done=value.done,
        unclean=value.unclean,
        bytes_read=value.bytes_read,
        slots_damaged=value.slots_damaged,
        seconds_left=value.seconds_left,
    )


def scrub_pass_value(message: scrub_pb2.ScrubPass) -> ScrubPassStatus:
    """From the wire."""
    return ScrubPassStatus(
        running=message.running,
        began=message.began,
        finished=message.finished,
        next_begins=message.next_begins,
        volumes=message.volumes,
        done=message.done,
        unclean=message.unclean,
        bytes_read=message.bytes_read,
        slots_damaged=message.slots_damaged,
        seconds_left=message.seconds_left,
    )
