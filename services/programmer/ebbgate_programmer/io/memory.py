"""What the process keeps of the machine's memory. Set once, at start.

A node's plan comes, and its kernel is read, in pieces of some megabytes that nobody needs a second later.
"""

import contextlib
import ctypes
import gc

# glibc's, malloc.h; other C libraries have no mallopt, or one that does nothing.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_YOUNG = 10_000
_LARGE = 128 << 10
"""Where glibc begins, too; it raises its limits when larger blocks come, and then keeps these."""


def keep_little() -> None:
    """Large blocks go back to the machine when they are freed, and the worker thread has no heap of its own:
    with 50,000 endpoints 5 MB less after a start, and 10 MB less after all of them came at once.
    """
    # What was imported stays for ever; a full collection would walk over it each time, for 10 ms. Rows and
    # what is made of them hold no cycles: looked for after every 700 new objects they cost 3 ms in 10,000.
    gc.freeze()
    gc.set_threshold(_YOUNG)
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for setting, value in ((_TRIM_THRESHOLD, _LARGE), (_MMAP_THRESHOLD, _LARGE), (_ARENA_MAX, 1)):
            mallopt(setting, value)
