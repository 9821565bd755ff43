"""A forge's git side: smart HTTP on the loopback interface, served by `git http-backend`.

.venv/bin/python -m scripts.sample.gitserver --root DIR --port PORT
"""

import argparse
import base64
import binascii
import hmac
import os
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, ClassVar
from urllib.parse import unquote, urlsplit

from scripts.sample.processes import program
from scripts.sample.repositories import Files, Repository

_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Credentials:
    """What one repository asks for; without it anybody may read."""

    username: str
    token: str


@dataclass(frozen=True)
class Request:
    """One line of the request log."""

    method: str
    path: str
    username: str | None
    status: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # A farm under test opens many connections at once; the default of 5 would refuse some.
    request_queue_size = 128

    def __init__(self, port: int, owner: "GitServer") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.owner = owner

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away (a killed worker's git) is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # Without it every small answer waits 40 ms for the peer's delayed acknowledgement.
    disable_nagle_algorithm: ClassVar[bool] = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's)
        """The request log is `GitServer.requests`."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        # Read in any case: on a kept connection the body would be taken for the next request.
        with self._body() as body:
            name, service = self._split(path)
            username = self._username()
            if name is None:
                self._finish(HTTPStatus.NOT_FOUND, username, b"no such repository\n")
            elif not self._may_pass(name):
                self._finish(HTTPStatus.UNAUTHORIZED, username, b"authentication required\n")
            else:
                self._run_backend(f"/{name}.git/{service}", parts.query, body, username)

    def _split(self, path: str) -> tuple[str | None, str]:
        owner, _, rest = path.lstrip("/").partition("/")
        project, _, service = rest.partition("/")
        name = f"{owner}/{project.removesuffix('.git')}"
        if ".." in name or not (self.server.owner.root / f"{name}.git" / "HEAD").is_file():
            return None, service
        return name, service

    def _authorization(self) -> tuple[str, str] | None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            username, _, token = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return username, token

    def _username(self) -> str | None:
        given = self._authorization()
        return given[0] if given else None

    def _may_pass(self, name: str) -> bool:
        wanted = self.server.owner.credentials.get(name)
        if wanted is None:
            return True
        given = self._authorization()
        return given is not None and hmac.compare_digest(
            f"{given[0]}:{given[1]}".encode(), f"{wanted.username}:{wanted.token}".encode()
        )

    def _body(self) -> IO[bytes]:
        """The request's body in a file: large ones come in chunks, and CGI wants a length."""
        body: IO[bytes] = tempfile.SpooledTemporaryFile(_CHUNK)  # noqa: SIM115 (the caller closes it)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body.write(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            left = int(self.headers.get("Content-Length") or 0)
            while left > 0 and (data := self.rfile.read(min(left, _CHUNK))):
                body.write(data)
                left -= len(data)
        return body

    def _run_backend(self, path: str, query: str, body: IO[bytes], username: str | None) -> None:
        length = body.tell()
        body.seek(0)
        environment = {
            "PATH": os.defpath,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(self.server.owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            # gzip bodies are the backend's own business, and so is the protocol version.
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")
            if self.server.owner.protocol_v2
            else "",
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_USER": username or "",
        }
        with subprocess.Popen(
            [program("git"), "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        ) as backend:
            if backend.stdin is None or backend.stdout is None:
                raise AssertionError
            feeder = threading.Thread(target=_feed, args=(body, backend.stdin), daemon=True)
            feeder.start()
            try:
                self._relay(backend.stdout, username)
            finally:
                # Also when the client went away: an unread pipe would hold the backend for ever.
                backend.kill()
                feeder.join()

    def _relay(self, output: IO[bytes], username: str | None) -> None:
        headers: list[tuple[str, str]] = []
        status = HTTPStatus.OK
        while line := output.readline().strip().decode():
            key, _, value = line.partition(": ")
            if key.lower() == "status":
                status = HTTPStatus(int(value.split()[0]))
            else:
                headers.append((key, value))
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._record(status, username)
        while data := output.read1(_CHUNK):  # type: ignore[attr-defined]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _finish(self, status: HTTPStatus, username: str | None, text: bytes) -> None:
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self._record(status, username)
        self.wfile.write(text)

    def _record(self, status: HTTPStatus, username: str | None) -> None:
        self.server.owner.requests.append(Request(self.command, self.path, username, status))


def _feed(source: IO[bytes], sink: IO[bytes]) -> None:
    """In a thread of its own: a backend that answers before it has read all would lock us both."""
    try:
        while data := source.read(_CHUNK):
            sink.write(data)
        sink.close()
    except (OSError, ValueError):
        pass


class GitServer:
    """Serves every repository under `root` at http://localhost:<port>/<owner>/<name>.git."""

    def __init__(self, root: Path, *, port: int = 0, protocol_v2: bool = True) -> None:
        self.root = root
        # Under protocol 2 git lets any commit be asked for, whatever uploadpack.allow* says.
        self.protocol_v2 = protocol_v2
        self.credentials: dict[str, Credentials] = {}
        self.requests: list[Request] = []
        root.mkdir(parents=True, exist_ok=True)
        self._server = _Server(port, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://localhost:{self._server.server_port}"

    def start(self) -> None:
        """Serves in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """No more connections are taken."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url_of(self, repository: Repository) -> str:
        """The clone URL."""
        return f"{self.url}/{repository.name}.git"

    def make_repository(
        self,
        name: str,
        files: Files,
        *,
        branch: str = "main",
        credentials: Credentials | None = None,
    ) -> Repository:
        """A new repository `<owner>/<name>`; with credentials it is private."""
        if credentials is not None:
            self.credentials[name] = credentials
        return Repository.create(self.root, name, files, branch=branch)


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(
        description="Serves a folder of git repositories over smart HTTP."
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    server = GitServer(arguments.root, port=arguments.port)
    server.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
