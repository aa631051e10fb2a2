# SPDX-License-Identifier: Apache-2.0
"""A borrowed stripe buffer goes back when it is not filled while others need it, and only then."""

import asyncio

import pytest

from drystone_core.errors import Busy
from drystone_gateway.http.bodies import IncomingBody
from drystone_gateway.operations.loans import LEAST, LOOK, MOST, Loan


class Short:
    """Whether buffers run short, and how often a loan was ended."""

    def __init__(self, *, contended: bool) -> None:
        self.contended = contended
        self.ended = 0

    def loan(self) -> Loan:
        return Loan(loop=asyncio.get_running_loop(), contended=lambda: self.contended)

    def end(self) -> None:
        self.ended += 1


async def test_a_buffer_that_is_not_filled_goes_back_while_buffers_are_short() -> None:
    """After one look without enough bytes the loan is over."""
    short = Short(contended=True)
    loan = short.loan()
    loan.begin(short.end)
    await asyncio.sleep(3 * LOOK)
    assert loan.over and short.ended == 1
    loan.end()


async def test_nothing_is_taken_back_while_there_are_buffers() -> None:
    """A slow client alone keeps what it has."""
    short = Short(contended=False)
    loan = short.loan()
    loan.begin(short.end)
    await asyncio.sleep(4 * LOOK)
    loan.end()
    assert not loan.over and not short.ended


async def test_who_fills_a_buffer_keeps_it() -> None:
    """LEAST bytes at each look are enough."""
    short = Short(contended=True)
    loan = short.loan()
    loan.begin(short.end)
    for _ in range(40):
        loan.filled += LEAST
        await asyncio.sleep(LOOK / 10)
    loan.end()
    assert not short.ended


async def test_who_was_caught_keeps_the_next_buffer_only_for_what_has_come() -> None:
    """The second loan ends in the next turn of the loop, not after a look."""
    short = Short(contended=True)
    loan = short.loan()
    loan.begin(short.end)
    await asyncio.sleep(2 * LOOK)
    loan.end()
    loan.begin(short.end)
    await asyncio.sleep(LOOK / 10)
    assert short.ended == 2
    loan.end()


async def test_a_blob_has_only_so_many_small_stripes() -> None:
    """Its row names each of them."""
    short = Short(contended=True)
    loan = short.loan()
    loan.begin(short.end)
    await asyncio.sleep(2 * LOOK)
    for _ in range(MOST):
        loan.end()
    with pytest.raises(Busy):
        loan.end()


class Quiet:
    """A connection on which nothing more comes."""

    def wait_for_body(self) -> "asyncio.Future[int]":
        return asyncio.get_running_loop().create_future()

    def pause_body(self) -> None:
        pass

    def send_continue(self) -> None:
        pass


async def test_an_interrupted_receive_returns_what_has_come_and_the_body_goes_on() -> None:
    """No byte is lost, and the next receive takes up where the last one ended."""
    body = IncomingBody(Quiet(), 10, False)
    body.feed(memoryview(b"abcd"))
    first = bytearray(10)
    asyncio.get_running_loop().call_later(0.01, body.interrupt)
    assert await body.receive(memoryview(first)) == 4
    body.feed(memoryview(b"efghij"))
    rest = bytearray(6)
    assert await body.receive(memoryview(rest)) == 6
    assert bytes(first[:4] + rest) == b"abcdefghij"
