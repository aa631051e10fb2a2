# SPDX-License-Identifier: Apache-2.0
"""Buffers are long enough for whatever the limits allow, in every profile."""

from itertools import cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.extents import PACK_LIMIT, PIECE_LIMIT, RECORD_ALIGN
from drystone_core.formats.trailer import LIMIT as TRAILER_LIMIT
from drystone_core.ids import BucketId, Key, Uid, VolumeId, make_blob_id
from drystone_core.profiles import DATA_LIMIT, Profile
from drystone_core.services import BlobHeader, SmallBlob
from drystone_core.stripes import piece_fragment_length
from drystone_datapath.append import AppendSettings, ParityBuffers, longest_fragment
from drystone_datapath.buffers import PIECE_BYTES
from drystone_datapath.pack import Piece, StripePlace, build_pack, build_piece
from drystone_testing.volume_rig import CODECS

HEADER = BlobHeader(bucket_id=BucketId(1), key=Key(b"k"), uid=Uid(bytes(16)))
PLACE = StripePlace(VolumeId(1), bytes(16), RECORD_ALIGN, 0)
COUNTS = st.integers(1, DATA_LIMIT)
LIMITS = AppendSettings()
ZEROS = bytes(PACK_LIMIT + TRAILER_LIMIT)
BLOB_ID = make_blob_id(1, bytes(8))


@given(k=COUNTS, payload=st.integers(0, PIECE_LIMIT), trailer=st.integers(0, TRAILER_LIMIT))
def test_a_piece_fits_its_buffer_and_its_parity(k: int, payload: int, trailer: int) -> None:
    """Any payload and trailer within the limits, cut into any number of fragments."""
    length = piece_fragment_length(payload + trailer, k)
    assert k * length <= PIECE_BYTES and length <= longest_fragment(k, LIMITS)


@given(k=COUNTS, data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_pack_fits_its_parity(k: int, data: st.DataObject) -> None:
    """Whatever batch the appender may make: as many blobs and bytes as a pack takes, of any sizes."""
    most = data.draw(st.sampled_from((1, 63, 5000, PACK_LIMIT, PACK_LIMIT + TRAILER_LIMIT)))
    drawn = data.draw(st.lists(st.integers(0, most), min_size=1, max_size=50))
    sizes = list(islice(cycle(drawn), LIMITS.pack_blobs))
    while len(sizes) > 1 and sum(sizes) > LIMITS.pack_bytes:
        sizes = sizes[: max(1, len(sizes) * 7 // 8)]
    blobs = [SmallBlob(header=HEADER, payload=ZEROS[:size], trailer=b"") for size in sizes]
    codec = CODECS.get(Profile(k, 1))
    with ParityBuffers(codec, LIMITS).take() as parity:
        stripe, extents = build_pack(blobs, [BLOB_ID] * len(blobs), PLACE, codec, parity.views)
    assert stripe.shape.fragment_length <= longest_fragment(k, LIMITS)
    assert [extent.length for extent in extents] == sizes


@pytest.mark.parametrize("k", range(1, DATA_LIMIT + 1))
def test_the_longest_piece_is_built(k: int) -> None:
    """With the longest trailer, in a buffer of the pool's size."""
    codec = CODECS.get(Profile(k, 2))
    with ParityBuffers(codec, LIMITS).take() as parity:
        piece = Piece(
            header=HEADER,
            blob_id=BLOB_ID,
            offset=0,
            view=memoryview(bytearray(PIECE_BYTES)),
            length=PIECE_LIMIT,
            trailer=bytes(TRAILER_LIMIT),
            last=True,
        )
        stripe, extent = build_piece(piece, PLACE, codec, parity.views, parity.heads)
    assert extent.length == PIECE_LIMIT and len(stripe.buffers) == k + 2
