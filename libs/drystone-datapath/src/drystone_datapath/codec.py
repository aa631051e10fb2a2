# SPDX-License-Identifier: Apache-2.0
"""Erasure coding: fragments to parity, and any k fragments to the missing ones. The only importer of pyeclib.

Two engines with the same bytes (code isa_l_rs_cauchy):
  IsalEngine     the ISA-L bundled in the pyeclib wheel, called by ctypes: no GIL, no copies
  PyeclibEngine  the reference; holds the GIL and copies, so it is given slices of at most SLICE bytes
`Codec` probes at start that both agree for its profile and otherwise uses the reference.
Reed-Solomon works byte by byte, so `rebuild` may be given any equal sub-range of the fragments.
"""

import ctypes
import glob
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyeclib
from pyeclib.ec_iface import ECDriver

from drystone_core.check import check
from drystone_core.ports import Buffer
from drystone_core.profiles import CODE, Profile
from drystone_core.stripes import align

SLICE = 1 << 20
"""Data bytes coded in one call."""
_HEADER = 80
"""liberasurecode's fragment header."""
_TABLES_KEPT = 256


class Engine(Protocol):
    """What codes."""

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer], length: int) -> None:
        """Fill `parity` (writable, `length` bytes each) from `data`."""
        ...

    def rebuild(self, missing: Sequence[int], have: Mapping[int, Buffer], length: int) -> list[bytes]:
        """The missing fragments' bytes from exactly k others."""
        ...


class Codec:
    """Coding for one profile."""

    __slots__ = ("_engine", "k", "m", "profile")

    def __init__(self, profile: Profile, *, engine: Engine | None = None) -> None:
        self.profile = profile
        self.k, self.m = profile.k, profile.m
        self._engine = engine if engine is not None or not profile.m else probed_engine(profile)

    @property
    def engine(self) -> Engine | None:
        """None when there is no parity."""
        return self._engine

    def encode_into(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        """Code k equally long views into m equally long writable ones (≤ SLICE data bytes in all to keep calls
        short)."""
        if self._engine is None:
            return
        length = len(data[0])
        if length:
            self._engine.encode(data, parity, length)

    def rebuild(self, missing: Sequence[int], have: Mapping[int, Buffer]) -> list[bytes]:
        """The bytes of the `missing` fragments from equally long parts of at least k others."""
        check(len(have) >= self.k, "rebuild needs k fragments")
        chosen: dict[int, Buffer] = {index: have[index] for index in sorted(have)[: self.k]}
        length = len(next(iter(chosen.values())))
        check(all(len(part) == length for part in chosen.values()), "rebuild: parts differ in length")
        if not length or not missing:
            return [b""] * len(missing)
        check(self._engine is not None, "nothing to rebuild from without parity")
        assert self._engine is not None
        return self._engine.rebuild(missing, chosen, length)


def probed_engine(profile: Profile) -> Engine:
    """ISA-L when its parity and its rebuild agree with the reference for this profile, else the reference."""
    reference = PyeclibEngine(profile)
    try:
        fast = IsalEngine(profile)
    except (OSError, AttributeError):
        return reference
    k, m, length = profile.k, profile.m, 64
    data = [bytes((row * 31 + column * 7 + 1) & 0xFF for column in range(length)) for row in range(k)]
    wanted: list[Buffer] = [bytearray(length) for _ in range(m)]
    got: list[Buffer] = [bytearray(length) for _ in range(m)]
    reference.encode(data, wanted, length)
    fast.encode(data, got, length)
    fragments: list[Buffer] = [*data, *got]
    have = {index: part for index, part in enumerate(fragments) if index}
    chosen = {index: have[index] for index in sorted(have)[:k]}
    if wanted != got or fast.rebuild([0], chosen, length) != [data[0]]:
        return reference
    return fast


class PyeclibEngine:
    """The reference."""

    def __init__(self, profile: Profile) -> None:
        self._k, self._m = profile.k, profile.m
        self._driver: Any = ECDriver(k=profile.k, m=profile.m, ec_type=CODE, chksum_type="none")

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer], length: int) -> None:
        step = max(64, SLICE // self._k & -64)
        for at in range(0, length, step):
            size = min(step, length - at)
            padded = align(size, 64)
            rows = [bytes(memoryview(part)[at : at + size]).ljust(padded, b"\0") for part in data]
            coded = self._driver.encode(b"".join(rows))
            for index in range(self._m):
                view = memoryview(coded[self._k + index])[_HEADER : _HEADER + size]
                memoryview(parity[index])[at : at + size] = view

    def rebuild(self, missing: Sequence[int], have: Mapping[int, Buffer], length: int) -> list[bytes]:
        padded = align(length, 64)
        dummy = self._driver.encode(bytes(padded * self._k))
        parts = [dummy[index][:_HEADER] + bytes(part).ljust(padded, b"\0") for index, part in have.items()]
        return [self._driver.reconstruct(parts, [index])[0][_HEADER : _HEADER + length] for index in missing]


class IsalEngine:
    """ISA-L by ctypes: releases the GIL, reads and writes the caller's buffers."""

    def __init__(self, profile: Profile) -> None:
        self._k, self._m = profile.k, profile.m
        self._lib = _load_isal()
        total = profile.k + profile.m
        self._matrix = (ctypes.c_ubyte * (total * profile.k))()
        self._lib.gf_gen_cauchy1_matrix(self._matrix, total, profile.k)
        parity_rows = bytes(self._matrix)[profile.k * profile.k :]
        self._encode_tables = self._tables(parity_rows, profile.m)
        self._data_array = ctypes.c_void_p * profile.k
        self._parity_array = ctypes.c_void_p * profile.m
        self._cache: OrderedDict[tuple[tuple[int, ...], tuple[int, ...]], Any] = OrderedDict()
        self._encode_data = self._lib.ec_encode_data

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer], length: int) -> None:
        sources, kept = _addresses(data)
        targets = [ctypes.addressof(ctypes.c_char.from_buffer(part)) for part in parity]
        self._encode_data(
            length, self._k, self._m, self._encode_tables, self._data_array(*sources), self._parity_array(*targets)
        )
        del kept

    def rebuild(self, missing: Sequence[int], have: Mapping[int, Buffer], length: int) -> list[bytes]:
        survivors = tuple(sorted(have))
        tables = self._rebuild_tables(survivors, tuple(missing))
        sources, kept = _addresses([have[index] for index in survivors])
        out = [bytearray(length) for _ in missing]
        targets = [ctypes.addressof(ctypes.c_char.from_buffer(part)) for part in out]
        rows = len(out)
        self._encode_data(length, self._k, rows, tables, self._data_array(*sources), (ctypes.c_void_p * rows)(*targets))
        del kept
        return [bytes(part) for part in out]

    def _tables(self, rows: bytes, count: int) -> Any:
        tables = (ctypes.c_ubyte * (32 * self._k * count))()
        self._lib.ec_init_tables(self._k, count, (ctypes.c_ubyte * len(rows)).from_buffer_copy(rows), tables)
        return tables

    def _rebuild_tables(self, survivors: tuple[int, ...], missing: tuple[int, ...]) -> Any:
        cached = self._cache.get((survivors, missing))
        if cached is not None:
            self._cache.move_to_end((survivors, missing))
            return cached
        k = self._k
        flat = bytes(self._matrix)
        square = b"".join(flat[row * k : row * k + k] for row in survivors)
        inverse = (ctypes.c_ubyte * (k * k))()
        source = (ctypes.c_ubyte * (k * k)).from_buffer_copy(square)
        check(self._lib.gf_invert_matrix(source, inverse, k) == 0, "survivors do not decode")
        rows = bytearray()
        for index in missing:
            if index < k:
                rows += bytes(inverse[index * k : index * k + k])
            else:
                rows += self._product(flat[index * k : index * k + k], bytes(inverse))
        tables = self._tables(bytes(rows), len(missing))
        self._cache[(survivors, missing)] = tables
        if len(self._cache) > _TABLES_KEPT:
            self._cache.popitem(last=False)
        return tables

    def _product(self, row: bytes, matrix: bytes) -> bytes:
        k, multiply = self._k, self._lib.gf_mul
        out = bytearray(k)
        for column in range(k):
            for index in range(k):
                out[column] ^= multiply(row[index], matrix[index * k + column])
        return bytes(out)


def _addresses(parts: Sequence[Buffer]) -> tuple[list[int | None], list[bytes]]:
    """Addresses of the parts; the second list keeps alive what had to be copied."""
    found: list[int | None] = []
    kept: list[bytes] = []
    for part in parts:
        if isinstance(part, memoryview) and part.readonly:
            part = bytes(part)
            kept.append(part)
        if isinstance(part, bytes):
            found.append(ctypes.cast(ctypes.c_char_p(part), ctypes.c_void_p).value)
        else:
            found.append(ctypes.addressof(ctypes.c_char.from_buffer(part)))
    return found, kept


def _load_isal() -> Any:
    folder = os.path.join(os.path.dirname(os.path.dirname(pyeclib.__file__)), "pyeclib.libs")
    names = sorted(glob.glob(os.path.join(folder, "libisal*.so*")))
    if not names:
        raise OSError("no ISA-L beside pyeclib")
    lib = ctypes.CDLL(names[0])
    pointer, number = ctypes.c_void_p, ctypes.c_int
    lib.ec_encode_data.argtypes = [number, number, number, pointer, pointer, pointer]
    lib.ec_encode_data.restype = None
    lib.ec_init_tables.argtypes = [number, number, pointer, pointer]
    lib.ec_init_tables.restype = None
    lib.gf_gen_cauchy1_matrix.argtypes = [pointer, number, number]
    lib.gf_gen_cauchy1_matrix.restype = None
    lib.gf_invert_matrix.argtypes = [pointer, pointer, number]
    lib.gf_invert_matrix.restype = number
    lib.gf_mul.argtypes = [ctypes.c_ubyte, ctypes.c_ubyte]
    lib.gf_mul.restype = ctypes.c_ubyte
    return lib


class Codecs:
    """One Codec per profile, made at first use (a probe costs about a millisecond)."""

    def __init__(self) -> None:
        self._made: dict[Profile, Codec] = {}

    def get(self, profile: Profile) -> Codec:
        """The codec of `profile`."""
        codec = self._made.get(profile)
        if codec is None:
            codec = self._made[profile] = Codec(profile)
        return codec
