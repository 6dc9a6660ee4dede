"""The BPF ring buffer of drops, by libbpf: waits in an event loop, gives what has come as bytes."""

import ctypes
import pathlib

from ebbgate_programmer.io import bpf, objects

_SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class RingBuffer:
    """One reader at a time: libbpf keeps the place up to which was read in the map itself.

    `descriptor`: readable when there is something.
    """

    def __init__(self, pinned: pathlib.Path) -> None:
        """Raises bpf.Refused, objects.Unloadable."""
        self._library = objects.libbpf()
        self._come: list[bytes] = []
        self._callback = _SAMPLE(self._take)  # kept: libbpf holds on to it
        map_ = bpf.get(pinned)
        self._map = map_
        self._ring = self._library.ring_buffer__new(map_, self._callback, None, None)
        if not self._ring:
            raise bpf.Refused(ctypes.get_errno(), f"read {pinned}")
        self.descriptor = int(self._library.ring_buffer__epoll_fd(self._ring))

    def _take(self, _: int, data: int, size: int) -> int:
        self._come.append(ctypes.string_at(data, size))
        return 0

    def read(self) -> list[bytes]:
        """What has come since."""
        self._library.ring_buffer__consume(self._ring)
        come, self._come = self._come, []
        return come

    def close(self) -> None:
        self._library.ring_buffer__free(self._ring)
        bpf.close(self._map)
