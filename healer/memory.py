"""Have the C library return memory to the system that is free again.

A start with a hundred thousand services needs large blocks for a moment: the document, tables that grow, the
saved state. glibc keeps freed blocks of such a size in its heap from the second one on, and gives back only
what is at the heap's end. Python's own allocator, for small objects, is not concerned.
"""

import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Names of glibc's `mallopt`."""
LARGE_BYTES: Final = 1024 * 1024
"""From this size on a block is returned as soon as it is free. A read of a socket needs less."""
FREE_BYTES: Final = 4 * LARGE_BYTES
"""How much may be free at the heap's end, so that it does not grow and shrink with each read."""


def return_large_blocks() -> bool:
    """Have large blocks returned from now on; return False where the C library is not glibc."""
    libc = ctypes.CDLL(None)
    try:
        set_option = libc.mallopt
    except AttributeError:
        return False
    return bool(set_option(M_MMAP_THRESHOLD, LARGE_BYTES) and set_option(M_TRIM_THRESHOLD, FREE_BYTES))


def return_free_memory() -> bool:
    """Return what is free now; return False if that was nothing, or the C library is not glibc.

    For some hundred megabytes this takes tens of milliseconds. Other threads run meanwhile.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except AttributeError:
        return False
