"""A redis-server that may be stopped, killed and emptied."""

from pathlib import Path

import redis

from scripts.sample.processes import Process, free_port, program


class RedisServer:
    """Keeps nothing on disk: as the farm expects, it may be empty at any moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """For FARM_REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Of the running server."""
        if self._process is None:
            message = "redis-server is not running"
            raise RuntimeError(message)
        return self._process.pid

    def start(self) -> None:
        """Starts it, empty, always on the same port."""
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--save": "",
            "--appendonly": "no",
        }
        arguments = [word for pair in options.items() for word in pair]
        self._process = Process(
            [program("redis-server"), *arguments, "--dir", str(self.folder)],
            log=self.folder / "redis.log",
        )
        self._process.wait_ready(self.answers)

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Killed, and back with nothing in it."""
        self.kill()
        self.start()

    def flush(self) -> None:
        """Empties it while it runs."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def answers(self) -> bool:
        """Whether it says PONG."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
