"""Docker hosts of a farm on one machine: a network namespace each, with an engine in it.

A host hangs on a bridge by a cable that a test may pull (`cut`) and plug in again (`heal`).
What listens on this machine's loopback interface (registry, git server) is reached from a host
under the same name, `localhost:<port>`, over two forwarders: one on the host's own loopback,
one here on the bridge's address.

    python -m tests.services.hosts FROM=TO...       the forwarder itself, each an address:port
"""

import asyncio
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scripts.sample.base_image import busybox_root, import_image
from scripts.sample.processes import CHECKOUT, Process, ServiceError, program
from tests.services.engine import Engine
from tests.services.images import BASE_IMAGE

_PREFIX_LENGTH = 24
_CHUNK = 64 * 1024


def run(*arguments: str, check: bool = True) -> str:
    """Run a command to its end; its failure is told with what it said."""
    done = subprocess.run(
        [program(arguments[0]), *arguments[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        message = f"{' '.join(arguments)}: {done.stderr}"
        raise ServiceError(message)
    return done.stdout


class Host:
    """One Docker host."""

    def __init__(self, name: str, *, network: "Network", number: int) -> None:
        self.name = name
        self.network = network
        self.address = f"{network.prefix}.{number + 1}"
        self.folder = Path(tempfile.mkdtemp(prefix="farm-host-", dir="/var/tmp"))
        self._namespace = f"{network.name}-{name}"
        self._plug = f"{network.name}p{number}"
        """Our end of the cable, on the bridge."""
        self._engine: Engine | None = None

    @property
    def within(self) -> list[str]:
        """What to put before a command so that it runs on this host.

        Not `ip netns exec`: that mounts /sys anew, without the cgroups that an engine needs.
        """
        return [program("nsenter"), f"--net=/run/netns/{self._namespace}"]

    @property
    def engine(self) -> Engine:
        """Its Docker Engine."""
        if self._engine is None:
            self._engine = Engine(self._run_engine("start").strip())
        return self._engine

    def base_image(self) -> str:
        """The tests' base image, the same name on every host; `/host` tells which one it is."""
        buffer = io.BytesIO(busybox_root())
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            entry = tarfile.TarInfo("host")
            entry.size = len(self.name)
            tar.addfile(entry, io.BytesIO(self.name.encode()))
        return import_image(
            self.engine, buffer.getvalue(), BASE_IMAGE, 'CMD ["sh"]', "ENV PATH=/bin:/usr/bin"
        )

    def connect(self) -> None:
        """Make the namespace, the cable, and the way to everything on the bridge and beyond."""
        inner, address = f"{self._plug}i", f"{self.address}/{_PREFIX_LENGTH}"
        run("ip", "netns", "add", self._namespace)
        run("ip", "link", "add", self._plug, "type", "veth", "peer", "name", inner)
        run("ip", "link", "set", inner, "netns", self._namespace)
        run("ip", "link", "set", self._plug, "master", self.network.name, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", inner, "name", "eth0")
        self.run("ip", "addr", "add", address, "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", self.network.address)

    def run(self, *arguments: str) -> str:
        """Run a command on this host."""
        return run(*self.within, program(arguments[0]), *arguments[1:])

    def cut(self) -> None:
        """Pull the cable. The host's own kernel sees that it is out."""
        run("ip", "link", "set", self._plug, "down")

    def swallow(self) -> None:
        """Packets vanish on their way, as behind a dead router: no kernel notices, so TCP waits
        longer and longer before it tries again."""
        for rule in self._swallowing():
            run("iptables", "-w", "-I", *rule)

    def heal(self) -> None:
        """Mend the way, however it was broken. Safe to repeat."""
        run("ip", "link", "set", self._plug, "up", check=False)
        for rule in self._swallowing():
            run("iptables", "-w", "-D", *rule, check=False)

    def _swallowing(self) -> list[list[str]]:
        return [
            ["INPUT", "-s", self.address, "-j", "DROP"],
            ["OUTPUT", "-d", self.address, "-j", "DROP"],
        ]

    def forward(self, *ports: int) -> Process:
        """Make this machine's loopback ports the host's own; the caller stops it."""
        pairs = [f"127.0.0.1:{port}={self.network.address}:{port}" for port in ports]
        return _forwarder(self.folder / "forwarder.log", pairs, within=self.within)

    def steps(self) -> list[int]:
        """The processes of RUN steps and containers that live in its engine."""
        if self._engine is None:
            return []
        return sorted(set(_pids_of_cgroup(_state(self._engine_folder)["name"])))

    def kill_engine(self) -> None:
        """kill -9 of the engine's daemon; its RUN processes are ended at the removal."""
        run_folder = Path(_state(self._engine_folder)["run"].strip("'"))
        os.kill(int((run_folder / "docker.pid").read_text()), signal.SIGKILL)

    def restart_engine(self) -> None:
        """Start an engine that was killed again."""
        self._run_engine("start")

    def remove(self) -> None:
        """End everything on it and take it away, however far it came."""
        self.heal()
        with contextlib.suppress(ServiceError):
            self._run_engine("stop")
        for pid in run("ip", "netns", "pids", self._namespace, check=False).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "link", "delete", self._plug, check=False)
        run("ip", "netns", "delete", self._namespace, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _engine_folder(self) -> Path:
        return self.folder / "engine"

    def _run_engine(self, verb: str) -> str:
        return run(*self.within, str(CHECKOUT / "scripts/engine"), verb, str(self._engine_folder))


class Network:
    """A bridge, the hosts on it, and this machine's address there."""

    def __init__(self) -> None:
        self.name = f"fh{os.getpid() % 100_000}"
        self.prefix = _free_prefix()
        self.address = f"{self.prefix}.1"
        """Where the control plane listens."""
        self._hosts: list[Host] = []
        self._undo = ExitStack()

    def connect(self) -> None:
        """Make the bridge."""
        run("ip", "link", "add", self.name, "type", "bridge")
        self._undo.callback(run, "ip", "link", "delete", self.name, check=False)
        run("ip", "addr", "add", f"{self.address}/{_PREFIX_LENGTH}", "dev", self.name)
        run("ip", "link", "set", self.name, "up")

    def let_out(self) -> None:
        """Let hosts reach what this machine reaches: a package index, say."""
        forwarding = Path("/proc/sys/net/ipv4/ip_forward")
        if forwarding.read_text().strip() == "0":
            forwarding.write_text("1")
            self._undo.callback(forwarding.write_text, "0")
        source = f"{self.prefix}.0/{_PREFIX_LENGTH}"
        for rule in (
            ["FORWARD", "-i", self.name, "-j", "ACCEPT"],
            ["FORWARD", "-o", self.name, "-j", "ACCEPT"],
            ["POSTROUTING", "-t", "nat", "-s", source, "!", "-o", self.name, "-j", "MASQUERADE"],
        ):
            run("iptables", "-w", "-I", *rule)
            self._undo.callback(run, "iptables", "-w", "-D", *rule, check=False)

    def add(self, name: str) -> Host:
        """Another host."""
        host = Host(name, network=self, number=len(self._hosts) + 1)
        self._hosts.append(host)
        host.connect()
        return host

    def publish(self, folder: Path, *ports: int) -> Process:
        """Make this machine's loopback ports reachable at the bridge's address."""
        pairs = [f"{self.address}:{port}=127.0.0.1:{port}" for port in ports]
        return _forwarder(folder / "published.log", pairs)

    def remove(self) -> None:
        """Take hosts, rules and bridge away."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.remove, self._hosts))
        self._undo.close()


@contextmanager
def docker_hosts(*names: str, outside: bool = False) -> Iterator[tuple[Network, list[Host]]]:
    """Hosts with these names on one network; gone afterwards, whatever happens."""
    network = Network()
    try:
        network.connect()
        if outside:
            network.let_out()
        yield network, [network.add(name) for name in names]
    finally:
        network.remove()


@contextmanager
def loopback_everywhere(
    network: Network, hosts: Sequence[Host], folder: Path, *, ports: Sequence[int]
) -> Iterator[None]:
    """While inside, `localhost:<port>` is the same server on this machine and on every host."""
    with ExitStack() as stack:
        stack.callback(network.publish(folder, *ports).stop)
        for host in hosts:
            stack.callback(host.forward(*ports).stop)
        yield


def _free_prefix() -> str:
    """The first three numbers of a network that no address or route of this machine touches."""
    taken = run("ip", "-4", "-o", "addr") + run("ip", "-4", "route")
    candidates = (f"192.168.{number}" for number in range(100, 250))
    return next(prefix for prefix in candidates if f"{prefix}." not in taken)


def _state(folder: Path) -> dict[str, str]:
    """What scripts/engine has written down about an engine."""
    lines = (folder / "engine.state").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def _pids_of_cgroup(name: str) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if f"/{name}/" in entry.read_text():
                yield int(entry.parent.name)


def _forwarder(log: Path, pairs: list[str], *, within: Sequence[str] = ()) -> Process:
    log.unlink(missing_ok=True)
    process = Process(
        [*within, sys.executable, "-m", "tests.services.hosts", *pairs], log=log, cwd=CHECKOUT
    )
    process.wait_ready(lambda: "forwarding" in log.read_text())
    return process


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, host: str, port: int
) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        far_reader, far_writer = await asyncio.open_connection(host, port)
        with contextlib.closing(far_writer):
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _forward(pairs: Sequence[str]) -> None:
    for pair in pairs:
        (near, near_port), (far, far_port) = (end.rsplit(":", 1) for end in pair.split("="))

        async def joined(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            host: str = far,
            port: int = int(far_port),
        ) -> None:
            await _join(reader, writer, host=host, port=port)

        await asyncio.start_server(joined, near, int(near_port))
    sys.stdout.write("forwarding\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_forward(sys.argv[1:]))
