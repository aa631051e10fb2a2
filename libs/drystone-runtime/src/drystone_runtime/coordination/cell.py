# SPDX-License-Identifier: Apache-2.0
"""Whose coordinator it is: the cell's identity, written once and compared at every connection."""

from drystone_core.coordination import ABSENT, Coordinator, Document, Put
from drystone_core.errors import ErrorCode, Refused, Stale
from drystone_core.formats.coordination import CELL, CellDocument, decode, encode
from drystone_core.ids import ClusterId
from drystone_core.ports import Clock


async def join_cell(
    coordinator: Coordinator, *, cell: ClusterId | None, create: bool, clock: Clock, where: str
) -> Document:
    """The cell's identity document. `cell` None: whichever is there. Refused, with what to do, for any other cell.

    `create`: when nothing is there yet, write `cell` as the identity; of several at once, one wins and the others compare.
    """
    found = await coordinator.get(CELL)
    if found is None and create and cell is not None:
        others = await coordinator.snapshot("")
        if not others.documents:
            value = encode(CellDocument(cell=cell, created_us=clock.wall_us()))
            try:
                await coordinator.commit(Put(key=CELL, value=value, expected=ABSENT))
            except Stale:
                pass  # another one was faster; compare below
        found = await coordinator.get(CELL)
    if found is None:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"{where} holds no cell: initialise it, or see whether its data was lost or its address or prefix is wrong",
        )
    there = decode(CellDocument, found.value, key=CELL).cell
    if cell is not None and there != cell:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"{where} belongs to cell {there}, not to {cell}: give this one the coordinator of its own cell, or a prefix of its own",
        )
    return found
