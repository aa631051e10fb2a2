# SPDX-License-Identifier: Apache-2.0
"""ISA-L by ctypes against pyeclib, byte for byte, and every survivor set of the shipped profiles."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.check import InvariantViolation
from drystone_core.ports import Buffer
from drystone_core.profiles import Profile
from drystone_datapath.codec import Codec, Codecs, IsalEngine, PyeclibEngine

SHIPPED = [(2, 1), (4, 2), (3, 2), (2, 2), (1, 1), (1, 2), (8, 3), (10, 4)]
REFERENCES = {shape: PyeclibEngine(Profile(*shape)) for shape in SHIPPED}
CODECS = Codecs()


def fragments(k: int, m: int, length: int, seed: int) -> list[bytes]:
    """k random fragments and their parity."""
    rng = random.Random(seed)
    data = [rng.randbytes(length) for _ in range(k)]
    parity = [bytearray(length) for _ in range(m)]
    CODECS.get(Profile(k, m)).encode_into(data, parity)
    return [*data, *map(bytes, parity)]


@pytest.mark.parametrize(("k", "m"), SHIPPED)
def test_every_survivor_set_rebuilds_every_missing_fragment(k: int, m: int) -> None:
    """All C(k+m, k) sets, as memoryviews, bytearrays and bytes alike."""
    whole = fragments(k, m, 96, 5)
    kinds = itertools.cycle((bytes, bytearray, memoryview, lambda part: memoryview(bytearray(part))))
    for survivors in itertools.combinations(range(k + m), k):
        missing = [index for index in range(k + m) if index not in survivors]
        have: dict[int, Buffer] = {index: next(kinds)(whole[index]) for index in survivors}
        assert CODECS.get(Profile(k, m)).rebuild(missing, have) == [whole[index] for index in missing]


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from(SHIPPED), length=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_fast_engine_and_reference_agree(shape: tuple[int, int], length: int, seed: int) -> None:
    """Parity and rebuilt bytes of any length are the same from both."""
    k, m = shape
    whole = fragments(k, m, length, seed)
    parity = [bytearray(length) for _ in range(m)]
    REFERENCES[shape].encode(whole[:k], parity, length)
    assert [bytes(part) for part in parity] == whole[k:]
    rng = random.Random(seed)
    survivors = sorted(rng.sample(range(k + m), k))
    missing = [index for index in range(k + m) if index not in survivors]
    have: dict[int, Buffer] = {index: whole[index] for index in survivors}
    assert REFERENCES[shape].rebuild(missing, have, length) == [whole[index] for index in missing]


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 3000), cut=st.tuples(st.integers(0, 2999), st.integers(0, 2999)), seed=st.integers(0, 99))
def test_any_sub_range_rebuilds_alone(length: int, cut: tuple[int, int], seed: int) -> None:
    """Reed-Solomon works byte by byte."""
    low, high = sorted(position % (length + 1) for position in cut)
    whole = fragments(4, 2, length, seed)
    have: dict[int, Buffer] = {index: memoryview(whole[index])[low:high] for index in (1, 2, 4, 5)}
    assert CODECS.get(Profile(4, 2)).rebuild([0, 3], have) == [whole[0][low:high], whole[3][low:high]]


def test_the_fast_engine_is_in_use_here() -> None:
    """The wheel's ISA-L is found and passes its probe for every shipped profile."""
    assert all(isinstance(CODECS.get(Profile(*shape)).engine, IsalEngine) for shape in SHIPPED)


def test_codec_works_on_the_reference_alone() -> None:
    """What a platform without the bundled ISA-L runs."""
    codec = Codec(Profile(3, 2), engine=PyeclibEngine(Profile(3, 2)))
    data = [bytes([index]) * 700_001 for index in range(3)]
    parity = [memoryview(bytearray(700_001)) for _ in range(2)]
    codec.encode_into(data, parity)
    assert codec.rebuild([0, 2], {1: data[1], 3: parity[0], 4: parity[1]}) == [data[0], data[2]]


def test_single_copy_has_nothing_to_code_and_cannot_rebuild() -> None:
    """Profile `none`."""
    codec = Codec(Profile(1, 0))
    codec.encode_into([b"abc"], [])
    with pytest.raises(InvariantViolation):
        codec.rebuild([0], {})
