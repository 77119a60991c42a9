"""IDX, the format of MNIST's files, gzipped or not; all of it big-endian:

    file  ::= magic, a uint32 for the length of each axis, the numbers (last axis fastest)
    magic ::= 00 00 type axes

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, "File formats".
"""

import gzip
import struct
import zlib
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np

from ..errors import LoadError

TYPES = {
    code: np.dtype(name)
    for code, name in {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}.items()
}
IMAGES, LABELS = 0x803, 0x801  # uint8 with three axes, and with one
DENSEST = 1032  # bytes that one byte of deflate stands for, at most


def read(path, magic=None, remedy="delete it, and it is downloaded again") -> np.ndarray:
    """The array in an IDX file. With `magic`, for example IMAGES, only of that type and rank.

    Raises LoadError, with the `remedy`, if the file is missing, damaged, too short or too long.
    """
    try:
        data = Path(path).read_bytes()
        return parse(unpacked(data) if data[:2] == b"\x1f\x8b" else data, magic)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise LoadError(f"{path}: {error}: {remedy}") from None


def unpacked(data) -> bytes:
    """Of a gzipped file, which ends with checksum and length. To know the length saves a quarter of the
    time; and in one piece, nothing waits for Python in between."""
    size = int.from_bytes(data[-4:], "little")
    with suppress(zlib.error):
        found = zlib.decompress(data, 16 + zlib.MAX_WBITS, min(size, DENSEST * len(data)))
        if data.endswith(struct.pack("<2I", zlib.crc32(found), len(found) % 2**32)):
            return found
    return gzip.decompress(data)  # it is damaged, or in several parts


def parse(data, magic) -> np.ndarray:
    head, rest = take(memoryview(data), 4, "magic")
    (found,) = struct.unpack(">I", head)
    code, rank = divmod(found, 256)
    if magic not in (None, found) or code not in TYPES:
        wanted = f"{magic:08x}" if magic else "00 00, a type from 08 to 0e, and the number of axes"
        raise ValueError(f"it starts with {found:08x}, expected {wanted}")
    axes, rest = take(rest, 4 * rank, "axes")
    shape, dtype = struct.unpack(f">{rank}I", axes), TYPES[code]
    numbers, rest = take(rest, prod(shape) * dtype.itemsize, "numbers")
    if rest:
        raise ValueError(f"it goes on after the {len(numbers)} bytes of numbers expected")
    return np.frombuffer(numbers, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def take(data, size, what):
    """The first `size` bytes, and the rest."""
    if len(data) < size:
        raise ValueError(f"it ends after {len(data)} of the {size} bytes of {what}")
    return data[:size], data[size:]


def write(path, array):
    """Save `array` as a gzipped IDX file; equal arrays give equal files."""
    codes = {dtype.newbyteorder("="): code for code, dtype in TYPES.items()}
    header = struct.pack(f">I{array.ndim}I", codes[array.dtype] << 8 | array.ndim, *array.shape)
    numbers = np.asarray(array, array.dtype.newbyteorder(">")).tobytes()
    Path(path).write_bytes(gzip.compress(header + numbers, mtime=0))
