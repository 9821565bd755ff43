"""How builds look: a row of `farm ps`, the page of `farm show`, a log."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable

import click

from farm.cli.client import Json
from farm.cli.follow import LogWriter, cause, waiting
from farm.cli.output import duration, on_terminal, print_facts, print_table, size, when

HEADERS = ("ID", "STATUS", "PROJECT", "OF", "COMMIT", "CREATED", "TOOK", "RESULT")
_SHA_SHOWN = 8
_DIGEST_SHOWN = len("sha256:") + 12


def row(build: Json) -> list[object]:
    """One build in a list."""
    sha = build["sha"] or ""
    return [
        build["id"],
        build["status"],
        build["project"],
        subject(build),
        sha[:_SHA_SHOWN] if on_terminal() else sha,
        when(build["created_at"]),
        duration(build["duration_s"]),
        _result(build),
    ]


def subject(build: Json) -> str:
    """What it builds: the pull request, the ref or the default branch."""
    if build["pull_request"] is not None:
        return f"#{build['pull_request']}"
    ref = build["ref"] or "default branch"
    return str(ref).removeprefix("refs/heads/").removeprefix("refs/tags/")


def print_build(build: Json, steps: list[Json]) -> None:
    """Everything about one build."""
    print_facts([*_result_facts(build), *_origin_facts(build), *_course_facts(build)])
    _print_attempts(build)
    if steps:
        click.echo()
        print_table(("STEP", "STATUS", "CACHED", "TOOK", "NAME"), [_step(step) for step in steps])


def print_log(pieces: Iterable[bytes], *, raw: bool) -> None:
    """A log; for a terminal without its control sequences."""
    writer = LogWriter(sys.stdout, raw=raw)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        writer.write(decoder.decode(piece))
    writer.write(decoder.decode(b"", final=True))
    writer.close()


def _result_facts(build: Json) -> list[tuple[str, object]]:
    image = build["image"] or {}
    return [
        ("build", build["id"]),
        ("status", build["status"]),
        ("reason", build["reason"]),
        ("cause", cause(build)),
        ("message", build["message"]),
        ("cure", build["cure"]),
        ("waiting", waiting(build)),
        ("may start in", _eta(build)),
        ("digest", image.get("digest")),
        ("tags", " ".join(image.get("tags", []))),
        ("size", size(image.get("size"))),
        ("page", build["url"]),
    ]


def _origin_facts(build: Json) -> list[tuple[str, object]]:
    return [
        ("project", build["project"]),
        ("repository", build["repository"]),
        ("of", subject(build)),
        ("commit", build["sha"]),
        ("trigger", build["trigger"]),
        ("priority", build["priority"]),
        ("retry of", build["retry_of"]),
    ]


def _course_facts(build: Json) -> list[tuple[str, object]]:
    return [
        ("created", when(build["created_at"])),
        ("started", when(build["started_at"])),
        ("finished", when(build["finished_at"])),
        ("queued for", duration(build["queue_s"])),
        ("took", duration(build["duration_s"])),
    ]


def _print_attempts(build: Json) -> None:
    rows = [
        (
            part["platform"],
            attempt["number"],
            attempt["worker"],
            attempt["outcome"] or "running",
            attempt["reason"],
            when(attempt["started_at"]),
        )
        for part in build["parts"]
        for attempt in part["attempts"]
    ]
    if rows:
        click.echo()
        print_table(("PLATFORM", "ATTEMPT", "WORKER", "OUTCOME", "REASON", "STARTED"), rows)


def _eta(build: Json) -> str:
    eta = build["waiting"] and build["waiting"]["eta_s"]
    return " to ".join(duration(seconds) for seconds in eta) if eta else ""


def _step(step: Json) -> list[object]:
    return [
        f"#{step['number']}",
        step["status"],
        "cached" if step["cached"] else "",
        duration(step["duration_s"]),
        step["name"],
    ]


def _result(build: Json) -> str:
    if build["image"]:
        digest = str(build["image"]["digest"])
        return digest[:_DIGEST_SHOWN] if on_terminal() else digest
    if build["waiting"]:
        return str(build["waiting"]["reason"])
    return str(build["reason"] or "")
