# SPDX-License-Identifier: Apache-2.0
"""Which of several processes a gateway asks: few while they have room, others when they have not, the failed last."""

from drystone_gateway.clients.choice import Choice, Peer
from drystone_testing.sim_world import ManualClock


def names(peers: list[Peer]) -> list[str]:
    """In their order."""
    return [peer.name for peer in peers]


def test_calls_gather_at_one_process_until_it_is_full_and_each_gateway_has_its_own() -> None:
    """The same one again and again; the next when so many are under way; another gateway begins elsewhere."""
    clock, peers = ManualClock(), [Peer(name=f"n{number}") for number in range(6)]
    choice = Choice(seed=b"a", clock=clock, tries=6, full=2)
    order = names(choice.gathered(peers))
    assert sorted(order) == [peer.name for peer in peers]
    assert names(choice.gathered(reversed(peers))) == order
    first = next(peer for peer in peers if peer.name == order[0])
    with first.counted():
        assert names(choice.gathered(peers)) == order
        with first.counted():
            assert names(choice.gathered(peers)) == [*order[1:], order[0]]
    assert first.under_way == 0
    firsts = {names(Choice(seed=bytes([seed]), clock=clock, tries=1).gathered(peers))[0] for seed in range(60)}
    assert firsts == {peer.name for peer in peers}
    assert names(choice.gathered(peers[:3])) == [name for name in order if name in {"n0", "n1", "n2"}]


def test_the_named_and_the_near_go_before_and_the_failed_last() -> None:
    """Whatever speaks for one that failed; after its time it is as before."""
    clock, peers = ManualClock(), [Peer(name=f"n{number}", near=number > 3) for number in range(6)]
    choice = Choice(seed=b"b", clock=clock, tries=6, avoid=2.0)
    assert names(choice.gathered(peers, first="n2"))[0] == "n2"
    assert set(names(choice.gathered(peers, near=True))[:2]) == {"n4", "n5"}
    choice.failed(peers[2])
    assert names(choice.gathered(peers, first="n2"))[-1] == "n2"
    assert names(choice.in_turn(peers))[-1] == "n2"
    clock.now += 2.0
    assert names(choice.gathered(peers, first="n2"))[0] == "n2"


def test_what_travels_alone_goes_to_one_after_the_other() -> None:
    """Each is first once in a round; at most `tries` are named; nobody at all is no error here."""
    peers = [Peer(name=f"n{number}") for number in range(4)]
    choice = Choice(seed=b"c", clock=ManualClock(), tries=2)
    rounds = [names(choice.in_turn(peers)) for _ in range(4)]
    assert sorted(first for first, _ in rounds) == ["n0", "n1", "n2", "n3"]
    assert choice.in_turn([]) == choice.gathered([]) == []
