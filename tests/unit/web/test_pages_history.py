"""The list's bars, notes and numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from werkzeug.datastructures import MultiDict

from farm.states import BuildStatus, Priority, StepStatus, Trigger
from farm.views import BuildView, ImageView, StepCount, StepView
from web import pages_build, render
from web.pages_history import Filters, history

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def build_of(queue_s: float, build_s: float | None = None, *, over: bool = True) -> BuildView:
    created = NOW - timedelta(seconds=queue_s + (build_s or 0))
    started = None if build_s is None else created + timedelta(seconds=queue_s)
    status = BuildStatus.SUCCEEDED if over else BuildStatus.RUNNING
    return BuildView(
        id="1",
        status=status if started else BuildStatus.QUEUED,
        reason=None,
        message=None,
        cure=None,
        project="acme/app",
        repository="https://git.example.com/acme/app",
        pull_request=7,
        ref=None,
        sha=None,
        trigger=Trigger.API,
        priority=Priority.NORMAL,
        waiting=None,
        parts=[],
        image=None,
        steps=StepCount(total=0, cached=0),
        retry_of=None,
        created_at=created,
        started_at=started,
        finished_at=NOW if started and over else None,
        queue_s=queue_s if started else None,
        duration_s=build_s if over else None,
        url="http://localhost/builds/1",
    )


def test_the_longest_build_of_the_page_is_the_scale() -> None:
    shown = history([build_of(10, 90), build_of(5, 45)], now=NOW)
    assert shown.scale_s == 100
    assert [(row.bar.queue, row.bar.build) for row in shown.rows] == [(100, 900), (50, 450)]


def test_one_endless_build_does_not_flatten_the_others() -> None:
    shown = history([build_of(0, 7200), *(build_of(10, 90) for _ in range(20))], now=NOW)
    assert shown.scale_s == 125
    assert shown.rows[0].bar.cut
    assert not shown.rows[1].bar.cut
    assert shown.rows[0].bar.build == 1000


def test_what_waits_or_runs_has_the_time_so_far() -> None:
    waiting, running = history([build_of(30), build_of(5, 55, over=False)], now=NOW).rows
    assert (waiting.bar.queue_s, waiting.bar.build_s) == (30, None)
    assert running.bar.build_s == 55
    assert running.times == "waited 5.0 s, built 55 s"
    assert history([], now=NOW).rows == []


def test_filters_keep_only_what_they_understand() -> None:
    query = MultiDict(
        [
            ("status", "failed"),
            ("status", "nonsense"),
            ("pull_request", " #12 "),
            ("q", "a" * 300),
            ("project", "x\x00"),
        ]
    )
    assert Filters.of(query) == Filters((BuildStatus.FAILED,), "", "12", "")
    assert Filters.of(MultiDict([("pull_request", "²")])).wanted.pull_request is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 m 00 s"),
        (3599.7, "1 h 00 m"),
        (7380, "2 h 03 m"),
        (-3, "0.0 s"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float | None, text: str) -> None:
    assert render.duration(seconds) == text


def test_sizes_ordinals_and_ages() -> None:
    assert [render.size(n) for n in (None, 12, 5_400, 84_300_000, 1_240_000_000)] == [
        "",
        "12 B",
        "5 kB",
        "84.3 MB",
        "1.24 GB",
    ]
    assert [render.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th")
    ]
    ages = {0: "now", 5: "5 s ago", 100: "1 min ago", 7200: "2 h ago", 5 * 86400: "5 days ago"}
    for seconds, text in ages.items():
        assert render.ago(NOW - timedelta(seconds=seconds), NOW) == text
    assert render.ago(NOW - timedelta(days=80), NOW) == "13 Oct 2025"


def test_an_image_is_pulled_by_digest_from_where_its_tag_is() -> None:
    def pulled(*tags: str) -> str | None:
        return ImageView(digest="sha256:ab", tags=list(tags), size=None).pull_reference

    assert pulled() is None
    assert pulled("registry:5000/acme/app:pr-1") == "registry:5000/acme/app@sha256:ab"
    assert pulled("registry:5000/acme/app") == "registry:5000/acme/app@sha256:ab"


def test_steps_lie_on_one_scale() -> None:
    def step(number: int, start: float | None, took: float | None) -> StepView:
        return StepView(
            number=number,
            name="RUN",
            status=StepStatus.RUNNING if took is None else StepStatus.SUCCEEDED,
            cached=False,
            started_at=None if start is None else NOW + timedelta(seconds=start),
            duration_s=took,
            platform=None,
            attempt=1,
        )

    steps = [step(1, 0, 5), step(2, 5, None), step(3, None, None)]
    rows = pages_build.waterfall(steps, now=NOW + timedelta(seconds=20))
    assert [(row.start, row.width) for row in rows] == [(0, 250), (250, 750), (0, 0)]
    assert rows[1].took_s == 15
    assert pages_build.scale(steps, now=NOW + timedelta(seconds=20)) == 20
    assert pages_build.waterfall([], now=NOW) == []
