"""A proxy before any TCP server that can fall silent, as a router that lost its state does."""

import contextlib
import select
import socket
import threading

_CHUNK = 64 * 1024
_LOOK_S = 0.2


class DroppingProxy:
    """Passes bytes on until `drop`: then nothing arrives any more, and nothing is closed."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._dropping = threading.Event()
        self._closed = threading.Event()
        self.dropped = threading.Event()
        """Set when a new connection came while it was silent."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_S)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def drop(self) -> None:
        """Fall silent: the connections that there are stay open and dead, also after `heal`."""
        self.dropped.clear()
        self._dropping.set()

    def heal(self) -> None:
        """New connections work again; old ones never do."""
        self._dropping.clear()

    def close(self) -> None:
        """Stop, and close every connection."""
        self._closed.set()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near:
            if self._dropping.is_set():
                self.dropped.set()
                self._closed.wait()
                return
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self._upstream)) as far,
            ):
                self._copy(near, far)

    def _copy(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        while not self._closed.is_set():
            readable, _, _ = select.select(list(other), [], [], _LOOK_S)
            if self._dropping.is_set():
                self._closed.wait()
                return
            for side in readable:
                data = side.recv(_CHUNK)
                if not data:
                    return
                other[side].sendall(data)
