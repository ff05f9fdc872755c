"""The frame marker: the program's frame index, painted into the picture so that it can be read at the viewer's glass.

The compositor paints it, the browser and the tests read it. Pure functions on planes, for any thread.

Layout, for reading it from a canvas: 32 cells, black or white, read as bits (white is 1) in this order::

    4 sync bits 1 0 1 0 | 24 bits of the frame index, highest first, modulo 2**24 | 4 check bits

The check is the exclusive or of the index's six 4-bit groups and of 0b0101 (so that neither black, white nor a typical
picture passes). The cells lie in rows along the bottom edge of the picture, first cell top left::

    width >= 512: 1 row of 32 cells,   width >= 256: 2 rows of 16,   narrower: 4 rows of 8

A cell is ``width / columns`` wide (at least 16 px) and ``max(16, 2 * floor(height / 40))`` px high. Its centre is at
``x = (column + 0.5) * width / columns`` and ``y = height - (num_rows - row - 0.5) * cell_height``. Read the mean
brightness of the 8 x 8 px around the centre; above the middle is white. In a picture shown at another size, scale these
coordinates.
"""

from __future__ import annotations

from functools import reduce
from operator import xor

import numpy as np
from numpy.typing import NDArray

SYNC_BITS = (1, 0, 1, 0)
NUM_INDEX_BITS = 24
NUM_CHECK_BITS = 4
NUM_CELLS = len(SYNC_BITS) + NUM_INDEX_BITS + NUM_CHECK_BITS
CHECK_SEED = 0b0101
BLACK, WHITE, NEUTRAL = 16, 235, 128  # BT.601 limited range


def paint(planes: NDArray[np.uint8], frame_index: int) -> None:
    """Paint the marker into one frame, yuv420p uint8 ``[H * 3 // 2, W]``, in place."""
    height, width = _size(planes)
    num_rows, cell_height = _rows(width), _cell_height(height)
    columns = NUM_CELLS // num_rows
    column_of_x = (np.arange(width) * columns) // width
    bits = np.array(_bits(frame_index)).reshape(num_rows, columns)
    top = height - num_rows * cell_height
    for row in range(num_rows):
        luma = np.where(bits[row], WHITE, BLACK).astype(np.uint8)[column_of_x]
        planes[top + row * cell_height : top + (row + 1) * cell_height, :width] = luma
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    chroma[:, top // 2 :, :] = NEUTRAL


def read(planes: NDArray[np.uint8]) -> int | None:
    """The frame index modulo 2**24 out of one frame, yuv420p uint8 ``[H * 3 // 2, W]``; None if there is no marker."""
    height, width = _size(planes)
    num_rows, cell_height = _rows(width), _cell_height(height)
    columns = NUM_CELLS // num_rows
    bits = []
    for cell in range(NUM_CELLS):
        row, column = divmod(cell, columns)
        x = int((column + 0.5) * width / columns)
        y = int(height - (num_rows - row - 0.5) * cell_height)
        bits.append(int(planes[y - 4 : y + 4, x - 4 : x + 4].mean() > (BLACK + WHITE) / 2))
    index = _number(bits[len(SYNC_BITS) : -NUM_CHECK_BITS])
    return index if bits == _bits(index) else None


def _bits(frame_index: int) -> list[int]:
    index = frame_index % (1 << NUM_INDEX_BITS)
    check = reduce(xor, (index >> shift & 0xF for shift in range(0, NUM_INDEX_BITS, 4)), CHECK_SEED)
    number = index << NUM_CHECK_BITS | check
    return [*SYNC_BITS, *(number >> shift & 1 for shift in reversed(range(NUM_INDEX_BITS + NUM_CHECK_BITS)))]


def _number(bits: list[int]) -> int:
    return reduce(lambda number, bit: number << 1 | bit, bits, 0)


def _size(planes: NDArray[np.uint8]) -> tuple[int, int]:
    return planes.shape[0] * 2 // 3, planes.shape[1]


def _rows(width: int) -> int:
    return 1 if width >= 512 else 2 if width >= 256 else 4


def _cell_height(height: int) -> int:
    return max(16, 2 * (height // 40))
