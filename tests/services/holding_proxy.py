"""A proxy before a registry that can hold one request back: faults at an exact moment."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HoldingProxy:
    """Passes everything on, except that a held request waits until it is released."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.held: tuple[str, str] | None = None
        self.reached = threading.Event()
        self.released = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        """`localhost:<port>`, as image names have it."""
        return f"localhost:{self._server.server_address[1]}"

    def hold(self, method: str, ending: str) -> None:
        """Hold the next request of that method whose path ends so."""
        self.reached.clear()
        self.released.clear()
        self.held = (method, ending)

    def release(self) -> None:
        """Let the held request, and all others, pass."""
        self.held = None
        self.released.set()

    def close(self) -> None:
        """Stop."""
        self.release()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: HoldingProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is not worth a line."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _pass_on(self) -> None:
        proxy = self.server.proxy
        held = proxy.held
        if held and self.command == held[0] and self.path.endswith(held[1]):
            proxy.reached.set()
            proxy.released.wait(120)
        upstream = http.client.HTTPConnection(proxy.upstream, timeout=60)
        try:
            body = self._body()
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # an Accept header comes several times
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        finally:
            upstream.close()

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            del self.headers["Transfer-Encoding"]
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(chunks)
            self.headers["Content-Length"] = str(len(body))
            return body
        length = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(length) if length else None

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on
