"""IDX, the format of MNIST's files, gzipped or not; all of it big-endian:

    file  ::= magic, a uint32 for the length of each axis, the numbers (last axis fastest)
    magic ::= 00 00 type axes

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, "File formats".
"""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from ..errors import LoadError

TYPES = {
    code: np.dtype(name)
    for code, name in {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}.items()
}
IMAGES, LABELS = 0x803, 0x801  # uint8 with three axes, and with one
PIECE = 1 << 20


def read(path, magic=None, remedy="delete it, and it is downloaded again") -> np.ndarray:
    """The array in an IDX file. With `magic`, for example IMAGES, only of that type and rank.

    Raises LoadError, with the `remedy`, if the file is missing, damaged, too short or too long.
    """
    try:
        with open(path, "rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            return parse(gzip.GzipFile(fileobj=file) if packed else file, magic)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise LoadError(f"{path}: {error}: {remedy}") from None


def parse(file, magic) -> np.ndarray:
    (found,) = struct.unpack(">I", take(file, 4, "magic"))
    code, rank = divmod(found, 256)
    if magic not in (None, found) or code not in TYPES:
        wanted = f"{magic:08x}" if magic else "00 00, a type from 08 to 0e, and the number of axes"
        raise ValueError(f"it starts with {found:08x}, expected {wanted}")
    shape = struct.unpack(f">{rank}I", take(file, 4 * rank, "axes"))
    dtype = TYPES[code]
    numbers = take(file, prod(shape) * dtype.itemsize, "numbers")
    if file.read(1):
        raise ValueError(f"it goes on after the {len(numbers)} bytes of numbers expected")
    return np.frombuffer(numbers, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def take(file, size, what) -> bytearray:
    """`size` bytes, a piece at a time: a header that lies gets no more memory than there is file."""
    data = bytearray()
    while len(data) < size:
        piece = file.read(min(size - len(data), PIECE))
        if not piece:
            raise ValueError(f"it ends after {len(data)} of the {size} bytes of {what}")
        data += piece
    return data


def write(path, array):
    """Save `array` as a gzipped IDX file; equal arrays give equal files."""
    codes = {dtype.newbyteorder("="): code for code, dtype in TYPES.items()}
    header = struct.pack(f">I{array.ndim}I", codes[array.dtype] << 8 | array.ndim, *array.shape)
    numbers = np.asarray(array, array.dtype.newbyteorder(">")).tobytes()
    Path(path).write_bytes(gzip.compress(header + numbers, mtime=0))
