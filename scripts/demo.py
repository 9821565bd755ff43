"""`make demo` and `make demo-stop`: from a pull request to an image in a registry, on this machine.

All of it is real and local: a Docker Engine, a registry, a git server with a pull request, and the
farm. State is kept in .demo/ of the checkout, so that a second `make demo` uses what runs, and
`make demo-stop` knows what to end.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from farm.cli import context
from scripts.sample import model_server
from scripts.sample.engine import Engine, start_engine, usable_engine
from scripts.sample.processes import (
    CHECKOUT,
    ServiceError,
    answers,
    boot_id,
    end_pid,
    free_port,
    pid_is_alive,
    process_start,
    program,
    session_pids,
    wait_until,
)
from scripts.sample.registry import manifest_digest, write_configuration
from scripts.sample.repositories import Repository

STATE = CHECKOUT / ".demo"
TERMINAL = frozenset({"succeeded", "failed", "errored", "cancelled", "skipped"})
IMAGE = "acme/flat-prices"
TAG = f"pr-{model_server.PULL_REQUEST}"
FARM_PORT = 8080

Json = dict[str, Any]


@dataclass
class Running:
    """A process of the demo. Its start time tells it from a stranger with the same number."""

    pid: int
    port: int
    started: str
    boot: str


@dataclass
class State:
    """What a later `make demo` or `make demo-stop` has to know."""

    engine_host: str = ""
    engine_is_ours: bool = False
    had_base_image: bool = False
    processes: dict[str, Running] = field(default_factory=dict)
    pushes: int = 0

    @classmethod
    def load(cls) -> "State":
        """From .demo/state.json; empty when there is no demo."""
        try:
            found = json.loads((STATE / "state.json").read_text())
        except FileNotFoundError:
            return cls()
        found["processes"] = {name: Running(**entry) for name, entry in found["processes"].items()}
        return cls(**found)

    def save(self) -> None:
        """Written whole or not at all: a demo that was interrupted must still be stoppable."""
        STATE.mkdir(exist_ok=True)
        draft = STATE / "state.json.new"
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(STATE / "state.json")

    def running(self, name: str) -> Running | None:
        """The process of that name, if it is still the one that we started."""
        entry = self.processes.get(name)
        if (
            entry is None
            or not pid_is_alive(entry.pid)
            or process_start(entry.pid) != entry.started
        ):
            return None
        return entry


class Demo:
    """One call of `make demo`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.state = State.load()

    def run(self) -> int:
        """Everything, in the order in which a person would tell it."""
        engine = self._engine()
        registry_port = self._process("registry", port=free_port(), command=_registry_command)
        git_port = self._process("git", port=free_port(), command=_git_command)
        self._repository(engine)
        farm_port = self._process(
            "farm",
            port=FARM_PORT if not answers(FARM_PORT) else free_port(),
            command=_farm_command,
            env={
                "FARM_DATA_DIR": str(STATE / "farm"),
                "FARM_INSECURE_OK": "1",
                "DOCKER_HOST": engine.host,
            },
        )
        server = f"http://127.0.0.1:{farm_port}"
        token = self._wait_for_farm(server)
        registry = f"localhost:{registry_port}"
        with httpx.Client(
            base_url=f"{server}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30
        ) as api:
            build = self._submit(
                api, f"http://localhost:{git_port}/{model_server.NAME}.git", registry
            )
            build = follow(api, build, self.console)
        return self._tell(build, engine, registry, f"http://127.0.0.1:{farm_port}")

    def _say(self, text: str) -> None:
        self.console.print(f"[bold]==>[/bold] {text}", highlight=False)

    def _engine(self) -> Engine:
        """The one that this demo began with; else one that is there; else our own."""
        folder = STATE / "engine"
        if self.state.engine_is_ours:
            engine = start_engine(folder)
        elif found := usable_engine(self.state.engine_host or os.environ.get("DOCKER_HOST")):
            engine = found
        else:
            # Noted before it is there: an interrupted start leaves something to stop as well.
            self.state.engine_is_ours = True
            STATE.mkdir(exist_ok=True)
            self.state.save()
            engine = start_engine(folder)
        if not self.state.engine_host:
            self.state.had_base_image = engine.has_image(model_server.BASE_IMAGE)
        self.state.engine_host = engine.host
        self.state.save()
        self._say(
            f"Docker Engine at {engine.host}{' (our own)' if self.state.engine_is_ours else ''}"
        )
        return engine

    def _process(
        self, name: str, *, port: int, command: Any, env: dict[str, str] | None = None
    ) -> int:
        """The port of a process of this demo, started now unless it runs already."""
        if entry := self.state.running(name):
            return entry.port
        known = self.state.processes.get(name)
        if known is not None and not answers(known.port):
            port = known.port  # the addresses of the last demo go on being right
        folder = STATE / name
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("FARM_")
        }
        if name == "farm":
            environment |= {
                "FARM_LISTEN": f"127.0.0.1:{port}",
                "FARM_URL": f"http://127.0.0.1:{port}",
            }
        with (folder / "output.log").open("ab") as output:
            process = subprocess.Popen(
                command(folder, port),
                cwd=CHECKOUT,
                env=environment | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.state.processes[name] = Running(
            process.pid, port, process_start(process.pid), boot_id()
        )
        self.state.save()

        def up_or_ended() -> bool:
            return process.poll() is not None or answers(port)

        with contextlib.suppress(ServiceError):
            wait_until(up_or_ended, what=name, seconds=60)
        if process.poll() is not None or not answers(port):
            raise ServiceError(
                f"{name} did not come up; the end of {folder / 'output.log'}:\n{_tail(folder)}"
            )
        self._say(f"{name} on port {port}")
        return port

    def _repository(self, engine: Engine) -> None:
        """The sample with its pull request; a second demo pushes one more commit to it."""
        started = time.monotonic()
        if not engine.has_image(model_server.BASE_IMAGE):
            model_server.base_image(engine)
            self._say(
                f"base image {model_server.BASE_IMAGE} made in {time.monotonic() - started:.1f} s"
            )
        root = STATE / "git" / "repositories"
        path = root / f"{model_server.NAME}.git"
        if not (path / "refs").exists():
            shutil.rmtree(path, ignore_errors=True)
            Repository.create(root, model_server.NAME, model_server.files())
            self.state.pushes = 0
        repository = Repository(model_server.NAME, path)
        number, self.state.pushes = model_server.PULL_REQUEST, self.state.pushes + 1
        changes = model_server.pull_request(self.state.pushes)
        if self.state.pushes == 1:
            sha = repository.open_pull_request(
                number, changes, message="Say which revision answered"
            )
        else:
            sha = repository.push_to_pull_request(number, changes)
        self.state.save()
        self._say(
            f"{model_server.NAME}: refs/pull/{number}/head is {sha[:12]} (push {self.state.pushes})"
        )

    def _wait_for_farm(self, server: str) -> str:
        """The token for it, once it says that it is ready."""

        def is_ready() -> bool:
            if self.state.running("farm") is None:
                raise ServiceError(f"farm up ended:\n{_tail(STATE / 'farm')}")
            with contextlib.suppress(httpx.HTTPError):
                return (
                    httpx.get(f"{server}/readyz", timeout=5).is_success
                    and _token(server) is not None
                )
            return False

        wait_until(
            is_ready, what=f"{server}/readyz (log: {STATE / 'farm' / 'output.log'})", seconds=60
        )
        token = _token(server)
        if token is None:
            raise AssertionError
        self._say(f"farm ready at {server}")
        return token

    def _submit(self, api: httpx.Client, repository: str, registry: str) -> Json:
        wanted = {
            "repository": repository,
            "pull_request": model_server.PULL_REQUEST,
            "tags": [f"{registry}/{IMAGE}:{TAG}"],
        }
        self._say(f"POST /api/v1/builds {json.dumps(wanted)}")
        # An engine that has just come up is a worker a moment later; the farm queues until then.
        answer = api.post("/builds", json=wanted, headers={"Idempotency-Key": str(uuid.uuid4())})
        if answer.is_error:
            raise ServiceError(f"the farm answered {answer.status_code}: {answer.text}")
        build: Json = answer.json()
        self._say(f"build {build['id']}: {build['url']}")
        return build

    def _tell(self, build: Json, engine: Engine, registry: str, server: str) -> int:
        if build["status"] != "succeeded":
            self._say(f"build {build['id']} {build['status']}: {build['reason']}")
            for line in filter(None, (build["message"], build["cure"])):
                self.console.print(f"    {line}", highlight=False, markup=False)
            return 1
        digest = manifest_digest(registry, IMAGE, TAG)
        cached, total = build["steps"]["cached"], build["steps"]["total"]
        self._say(f"succeeded in {build['duration_s']:.1f} s, {cached} of {total} steps cached")
        self._say(f"the registry says: {registry}/{IMAGE}:{TAG} is {digest}")
        if digest != build["image"]["digest"]:
            self._say(f"but the farm says {build['image']['digest']}")
            return 1
        reference = f"{registry}/{IMAGE}@{digest}"
        prediction = engine.docker(
            "run", "--rm", "--pull=always", reference, "python3", "serve.py", "--once"
        )
        self._say(f"docker run {reference}")
        self.console.print(f"    {prediction.splitlines()[-1]}", highlight=False, markup=False)
        self._say(f"the build's page: {build['url']}")
        self.console.print(
            f"    The farm goes on running at {server}.\n"
            f"    Sign in with the token in {context.config_file()};\n"
            "    .venv/bin/farm ps lists its builds, make demo again pushes to the pull request,\n"
            "    make demo-stop ends it all.",
            highlight=False,
            markup=False,
        )
        return 0


def follow(api: httpx.Client, build: Json, console: Console) -> Json:
    """Shows the log and a bar of steps until the build has ended, and returns it as it ended."""
    steps: dict[int, Json] = {}
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        shown = bar.add_task(build["status"], total=None)
        for name, data in events(api, build["id"]):
            if name == "log":
                console.print(data["text"].rstrip("\n"), highlight=False, markup=False)
            elif name == "step":
                steps[data["number"]] = data
                _advance(bar, shown, steps, build)
            elif name in {"status", "done"}:
                build = data
                bar.update(shown, description=build["status"])
                _advance(bar, shown, steps, build)
            if name == "done":
                break
    return build


def _advance(bar: Progress, task: TaskID, steps: dict[int, Json], build: Json) -> None:
    done = sum(step["status"] != "running" for step in steps.values())
    total = max(len(steps), build["steps"]["total"])
    bar.update(task, completed=done, total=total or None)


def events(api: httpx.Client, build_id: str) -> Iterator[tuple[str, Json]]:
    """The build's events; a connection that breaks is taken up where it ended."""
    seen: dict[str, str] = {}
    for attempt in range(20):
        try:
            with api.stream(
                "GET",
                f"/builds/{build_id}/events",
                headers={"Accept": "text/event-stream", **seen},
                timeout=60,
            ) as answer:
                answer.raise_for_status()
                for name, number, data in _parsed(answer.iter_lines()):
                    seen = {"Last-Event-ID": number} if number else seen
                    yield name, data
                    if name == "done":
                        return
        except httpx.TransportError:
            time.sleep(min(attempt, 5) * 0.2)
        build: Json = api.get(f"/builds/{build_id}").raise_for_status().json()
        if build["status"] in TERMINAL:
            yield "done", build
            return
    raise ServiceError(f"the events of build {build_id} break off again and again")


def _parsed(lines: Iterator[str]) -> Iterator[tuple[str, str, Json]]:
    """Server-sent events as (name, id, data); comments and events without data are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        if line:
            value = value.removeprefix(" ")
            fields[key] = fields[key] + value if key == "data" and key in fields else value
        else:
            if fields.get("data"):
                event = fields.get("event", "message")
                yield event, fields.get("id", ""), json.loads(fields["data"])
            fields = {}


def _registry_command(folder: Path, port: int) -> list[str]:
    return [program("docker-registry"), "serve", str(write_configuration(folder, port=port))]


def _git_command(folder: Path, port: int) -> list[str]:
    options = ["--root", str(folder / "repositories"), "--port", str(port)]
    return [sys.executable, "-m", "scripts.sample.gitserver", *options]


def _farm_command(_folder: Path, _port: int) -> list[str]:
    return [str(CHECKOUT / ".venv" / "bin" / "farm"), "up"]


def _token(server: str) -> str | None:
    """The token that `farm up` left for the command line."""
    return next(
        (entry.token for entry in context.load().contexts.values() if entry.server == server), None
    )


def _tail(folder: Path) -> str:
    return "\n".join((folder / "output.log").read_text(errors="replace").splitlines()[-20:])


def stop(console: Console) -> int:
    """Ends what State knows of, in the order in which one uses the other, and removes it."""
    state = State.load()
    if not STATE.exists():
        console.print("No demo is running here.")
        return 0
    ports = {name: entry.port for name, entry in state.processes.items()}
    for name in ("farm", "git", "registry"):
        if entry := state.running(name):
            # The farm hands a running build back first, which takes it a moment.
            end_pid(entry.pid, patience=45)
        known = state.processes.get(name)
        if known is not None and known.boot == boot_id():
            # Children of one that was killed; the session is still theirs.
            for pid in session_pids(known.pid):
                end_pid(pid)
    if state.engine_is_ours:
        Engine(state.engine_host, STATE / "engine").stop()
    elif state.engine_host and (engine := usable_engine(state.engine_host)):
        _clean_engine(engine, state, ports.get("registry"))
    for name, saved in context.load().contexts.items():
        if saved.server == f"http://127.0.0.1:{ports.get('farm')}":
            context.remove_context(name)
            with contextlib.suppress(OSError):  # ours, if it is empty now
                context.config_file().parent.parent.rmdir()
    _clear_memory()
    shutil.rmtree(STATE)
    console.print("The demo has ended; nothing of it is left.")
    return 0


def _clear_memory() -> None:
    """A worker that was killed leaves a folder on tmpfs, with the logins of its attempts."""
    from workers.attemptdir import remove_tree
    from workers.toolbox import TMPFS, owner_of

    for folder in TMPFS.glob(f"farm-*-{owner_of(STATE / 'farm' / 'worker')}"):
        remove_tree(folder)


def _clean_engine(engine: Engine, state: State, registry_port: int | None) -> None:
    """An engine that was there before keeps nothing of ours."""
    ours = f"localhost:{registry_port}/"
    listed = engine.docker(
        "image", "ls", "--all", "--digests", "--format", "{{.Repository}} {{.ID}}"
    ).splitlines()
    images = {line.split()[1] for line in listed if line.startswith(ours)}
    for image in images:
        containers = engine.docker(
            "ps", "--all", "--quiet", "--filter", f"ancestor={image}"
        ).split()
        if containers:
            engine.docker("rm", "--force", *containers)
    if images:
        engine.docker("image", "rm", "--force", *sorted(images))
    if not state.had_base_image and engine.has_image(model_server.BASE_IMAGE):
        engine.docker("image", "rm", "--force", model_server.BASE_IMAGE)


def main() -> None:
    """`start` or `stop`."""
    console = Console(soft_wrap=True)
    try:
        code = stop(console) if sys.argv[1:] == ["stop"] else Demo(console).run()
    except (ServiceError, httpx.HTTPError) as exc:
        console.print(f"demo: {exc}", style="red", highlight=False, markup=False)
        console.print("make demo-stop clears up what has been started.")
        code = 1
    except KeyboardInterrupt:
        console.print("Interrupted; what was started goes on until make demo-stop.")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
