# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Memory with the bytes that were ever written, and the address windows of the state spaces."""

import numpy as np

from .faults import Fault
from .operations import RAW

# Generic addresses of what is not global. Global memory keeps its own addresses, which lie above.
WINDOW = 1 << 32
SHARED, LOCAL, PARAMETER = 1 << 32, 2 << 32, 3 << 32
GLOBAL = 1 << 36
WRITTEN = {1: np.uint8(1), 2: np.uint16(0x0101), 4: np.uint32(0x01010101),
           8: np.uint64(0x0101010101010101)}


class Bytes:
    """Some bytes and which of them were written; fresh ones are 0xFF."""

    def __init__(self, size):
        size = -(-size // 8) * 8 + 8
        self.content = np.full(size, 0xFF, np.uint8)
        self.written = np.zeros(size, np.uint8)
        self.views = {n: (self.content.view(RAW[n]), self.written.view(RAW[n])) for n in RAW}

    def read(self, at, size, count=1):
        """`count` values of `size` bytes each at multiples of it, and None or which of them were
        not written in full."""
        content, written = self.views[size]
        index = at // size
        if count > 1:
            index = np.arange(count)[:, None] + index
        missing = written[index] != WRITTEN[size]
        return content[index], missing if np.count_nonzero(missing) else None

    def write(self, at, values):
        size = values.dtype.itemsize
        content, written = self.views[size]
        index = at // size
        content[index] = values.view(RAW[size])
        written[index] = WRITTEN[size]


class GlobalMemory:
    """Named allocations anywhere in the address space, with a gap of 256 bytes after each."""

    def __init__(self):
        self.names, self.starts, self.sizes, self.offsets = [], [], [], []
        self.bytes = Bytes(0)
        self.top = 256
        self.free_address = GLOBAL
        self.tables = None

    def allocate(self, name, size, address=None):
        """Room for `size` bytes that nobody has written; its address."""
        if address is None:
            address = self.free_address
            self.free_address += -(-size // 256) * 256 + 256
        offset = -(-self.top // 256) * 256 + address % 256
        self.top = offset + size + 256
        if self.top > len(self.bytes.content) - 8:
            grown = Bytes(2 * self.top)
            grown.content[:len(self.bytes.content)] = self.bytes.content
            grown.written[:len(self.bytes.written)] = self.bytes.written
            self.bytes = grown
        for part, value in ((self.names, name), (self.starts, address), (self.sizes, size),
                            (self.offsets, offset)):
            part.append(value)
        self.tables = None
        return address

    def variable(self, name, size):
        """Room for a variable of a module, one for all launches; its address."""
        if name in self.names:
            return self.starts[self.names.index(name)]
        return self.allocate(name, size)

    def put(self, name, array, address=None):
        """An allocation with the content of an array; its address."""
        array = np.ascontiguousarray(array)
        address = self.allocate(name, array.nbytes, address)
        self.store(address, array.tobytes())
        return address

    def release(self, address):
        k = self.starts.index(address)
        for part in (self.names, self.starts, self.sizes, self.offsets):
            del part[k]
        self.tables = None
        if not self.names:
            self.bytes, self.top = Bytes(0), 256

    def store(self, address, content):
        """Bytes from the host."""
        at = int(self.translate(np.array([address], np.uint64), len(content), "write")[0])
        self.bytes.content[at:at + len(content)] = np.frombuffer(content, np.uint8)
        self.bytes.written[at:at + len(content)] = 1

    def move(self, to, from_, size):
        """Bytes from one place to another, unwritten ones as such."""
        to, from_ = (int(self.translate(np.array([a], np.uint64), size, what)[0])
                     for a, what in ((to, "write"), (from_, "read")))
        for table in (self.bytes.content, self.bytes.written):
            table[to:to + size] = table[from_:from_ + size].copy()

    def load(self, address, shape, dtype):
        """An array from memory, every byte of which has been written."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        at = int(self.translate(np.array([address], np.uint64), size, "read")[0])
        missing = np.flatnonzero(self.bytes.written[at:at + size] == 0)
        if len(missing):
            raise Fault("unwritten output", f"{len(missing)} of {size} bytes of "
                        f"{self.place(address)} were never written, the first at {missing[0]}")
        return self.bytes.content[at:at + size].view(dtype).reshape(shape).copy()

    def raw(self, address, size):
        """Bytes as they lie there, unwritten ones 0xFF."""
        at = int(self.translate(np.array([address], np.uint64), size, "read")[0])
        return self.bytes.content[at:at + size].copy()

    def place(self, address):
        """Where an address lies, in words."""
        address = int(address)
        for name, start, size in zip(self.names, self.starts, self.sizes):
            if start - 256 <= address < start + size + 256:
                return f"byte {address - start} of '{name}' ({size} bytes)"
        return f"address {address:#x}, near no allocation"

    def translate(self, addresses, size, what):
        """Offsets into the bytes of accesses of `size` bytes."""
        if self.tables is None:
            order = np.argsort(np.array(self.starts, np.uint64))
            self.tables = tuple(np.array(t, np.int64)[order] for t in
                                (self.starts, self.sizes, self.offsets))
        starts, sizes, offsets = self.tables
        a = addresses.view(np.int64)
        if not len(starts):
            raise Fault("out of bounds", f"{what} of {size} bytes at {int(a[0]):#x}: no memory")
        k = starts.searchsorted(a, "right") - 1
        inside = a - starts[k]
        bad = (k < 0) | (inside + size > sizes[k])
        if np.count_nonzero(bad):
            k = np.flatnonzero(bad)[0]
            raise Fault("out of bounds", f"{what} of {size} bytes at {self.place(a[k])}", k)
        return offsets[k] + inside


class PerLane:
    """The same few bytes for each of many owners: shared, local or parameter memory."""

    def __init__(self, name, owners, size):
        self.name, self.size = name, size
        self.stride = -(-size // 256) * 256 if size else 0
        self.bytes = Bytes(owners * self.stride)

    def translate(self, addresses, size, what, owner):
        a = addresses.astype(np.int64)
        bad = (a < 0) | (a > self.size - size)
        if np.count_nonzero(bad):
            k = np.flatnonzero(bad)[0]
            raise Fault("out of bounds", f"{what} of {size} bytes at byte {int(a[k])} of "
                        f"{self.size} bytes of {self.name} memory", k)
        return owner * self.stride + a

    def copy(self, mask, pieces):
        """(from, to, size) within the memory of each owner in the mask."""
        owners = slice(None) if mask is None else np.flatnonzero(mask)
        for start, to, size in pieces:
            for table in self.table():
                table[owners, to:to + size] = table[owners, start:start + size]

    def table(self):
        """Bytes of the owners, a row each."""
        rows = len(self.bytes.content) // max(self.stride, 1)
        n = rows * self.stride
        return (self.bytes.content[:n].reshape(rows, -1) if n else None,
                self.bytes.written[:n].reshape(rows, -1) if n else None)
