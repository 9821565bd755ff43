"""The pages in a real browser: what people do, live updates, and a page without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import select

from farm import db
from farm.model import Build, Part
from farm.reasons import WaitReason
from farm.states import BuildStatus
from tests.pages_farm import PagesFarm, pages_farm
from web import pages_log

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "\x1b[31mred\x1b[0m \x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\",
    "10%\r50%\r100%\r",
    "\u202egpj.exe \u200b \x00 \x9b31m",
    "#5 0.123 ERROR: said by make",
    "x" * 5000,
)


@dataclass
class Visit:
    """A page in the browser, signed in, that remembers every complaint of the browser."""

    page: Page
    farm: PagesFarm
    address: str
    token: str
    complaints: list[str] = field(default_factory=list)

    def sign_in(self) -> None:
        """As people do: asked for the list, sent to the form, pasted the token."""
        self.page.goto(f"{self.address}/builds")
        self.page.get_by_label("Token").fill(self.token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Builds", level=1)).to_be_visible()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield made
        made.close()


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a farm in a browser context; any complaint of the browser fails the test."""
    with pages_farm(tmp_path) as farm, farm.served() as address:
        visits: list[Visit] = []

        def opened(**options: Any) -> Visit:
            context = browser.new_context(**options)
            made = Visit(context.new_page(), farm, address, farm.token())
            made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
            made.page.on(
                "console",
                lambda said: made.complaints.append(said.text) if said.type == "error" else None,
            )
            made.sign_in()
            visits.append(made)
            return made

        yield opened
        for made in visits:
            made.page.context.close()
        assert [made.complaints for made in visits] == [[] for _ in visits]


def finish(farm: PagesFarm, build_id: int) -> None:
    """The build is over, as its worker would have said."""
    with farm.session() as session:
        build, now = session.get_one(Build, build_id), db.now(session)
        build.status, build.finished_at = BuildStatus.SUCCEEDED, now
        build.image_digest, build.image_size = f"sha256:{'ab' * 32}", 84_000_000
        for part in session.scalars(select(Part).where(Part.build_id == build_id)):
            part.status, part.phase = BuildStatus.SUCCEEDED, None


def log_numbers(page: Page) -> list[int]:
    """The numbers of the log's lines, as shown."""
    return [int(text) for text in page.locator("#lines .line > a").all_inner_texts()]


def test_people_find_a_build_and_read_it(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        seeder.history(120)
        seeder.build(status=BuildStatus.FAILED, created_at=seeder.now - timedelta(seconds=30))
    page = here.page
    page.reload()
    assert page.locator("[data-row]").count() == 50
    page.get_by_label("Show only").get_by_role("link", name="failed").click()
    expect(page).to_have_url(re.compile(r"/builds\?status=failed$"))
    assert set(page.locator(".status").all_inner_texts()) == {"failed"}
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("acme/")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"status=failed&q=acme%2F"))
    assert all("acme/" in text for text in page.locator(".open").all_inner_texts())
    page.goto(f"{here.address}/builds")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator(".open").nth(1)
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Log")).to_be_visible()
    expect(page.get_by_role("button", name="Copy the commit")).to_be_visible()


def test_everything_works_without_javascript(visit: Open) -> None:
    here = visit(java_script_enabled=False)
    with here.farm.seeding() as seeder:
        seeder.history(60)
        build_id = seeder.waiting(1, WaitReason.SLOTS_BUSY).id
    page = here.page
    page.goto(f"{here.address}/builds")
    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="Newest").click()
    page.get_by_label("Project").fill("acme/feature-store")
    page.get_by_role("button", name="Apply").click()
    assert all("acme/feature-store" in t for t in page.locator(".open").all_inner_texts())
    page.goto(f"{here.address}/builds/{build_id}")
    assert page.locator("[data-copy]:visible").count() == 0
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".over .status")).to_have_text("cancelled")
    page.get_by_role("link", name="Workers").click()
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_running_build_is_followed_to_its_end(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        build_id = seeder.running(5).id
    page = here.page
    page.goto(f"{here.address}/builds/{build_id}")
    before = log_numbers(page)
    assert before == list(range(1, len(before) + 1))
    with here.farm.seeding() as seeder:
        build = seeder.session.get_one(Build, build_id)
        seeder.add_log(build, "#8 1.5 the first\n#8 1.6 the se")
    expect(page.locator("#lines")).to_contain_text("the first")
    with here.farm.seeding() as seeder:
        seeder.add_log(seeder.session.get_one(Build, build_id), "cond\n#8 DONE 2.0s\n")
    expect(page.locator("#lines")).to_contain_text("the second")
    finish(here.farm, build_id)
    expect(page).to_have_title(re.compile("^Succeeded · "))
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile("status-succeeded"))
    expect(page.get_by_text(f"sha256:{'ab' * 32}")).to_be_visible()
    after = log_numbers(page)
    assert after == list(range(1, len(before) + 4)), "a line is missing or doubled"


def test_a_build_is_followed_from_the_line_into_its_next_attempt(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        build_id = seeder.waiting(1, WaitReason.SLOTS_BUSY).id
    page = here.page
    page.goto(f"{here.address}/builds/{build_id}")
    expect(page.get_by_text("1st in line.")).to_be_visible()
    expect(page.get_by_text("No output yet.")).to_be_visible()
    for attempt, text in ((1, "first try"), (2, "second try")):
        with here.farm.seeding() as seeder:
            seeder.start(seeder.session.get_one(Build, build_id), attempt)
            seeder.add_log(seeder.session.get_one(Build, build_id), f"#1 0.1 {text}\n#1 0.2 more\n")
        expect(page.locator("#L1")).to_contain_text(text)
        expect(page.locator("#log-range")).to_have_text("lines 1 to 2 of 2")
        assert log_numbers(page) == [1, 2]
    expect(page.locator("table.attempts tbody tr")).to_have_count(2)
    expect(page.locator(".over .status")).to_have_text("running")


def test_the_log_never_steals_the_scroll(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        build = seeder.running(5)
        seeder.add_log(build, "".join(f"#9 1.0 line {n}\n" for n in range(300)))
        build_id = build.id
    page = here.page
    page.goto(f"{here.address}/builds/{build_id}")
    with here.farm.seeding() as seeder:
        seeder.add_log(seeder.session.get_one(Build, build_id), "#9 1.1 news\n#9 1.2 more\n")
    expect(page.locator("#follow")).to_have_text("2 new lines ↓")
    assert page.evaluate("scrollY") == 0
    page.locator("#follow").click()
    expect(page.get_by_text("more", exact=True)).to_be_in_viewport()
    expect(page.locator("#follow")).to_be_hidden()
    with here.farm.seeding() as seeder:
        seeder.add_log(seeder.session.get_one(Build, build_id), "#9 1.3 followed\n")
    expect(page.get_by_text("followed", exact=True)).to_be_in_viewport()


def test_a_line_of_the_log_is_a_lasting_address(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        build = seeder.running(5)
        seeder.add_log(build, "".join(f"#9 1.0 line {n}\n" for n in range(3000)))
        build_id = build.id
    page = here.page
    page.goto(f"{here.address}/builds/{build_id}#L1000")
    expect(page).to_have_url(re.compile(r"\?line=1000#L1000$"))
    expect(page.locator("#L1000")).to_be_in_viewport()
    page.locator("#L1003 > a").click()
    expect(page).to_have_url(re.compile(r"\?line=1003#L1003$"))


def test_what_a_build_prints_is_only_ever_text(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        build = seeder.running(5)
        build_id = build.id
    page = here.page
    page.goto(f"{here.address}/builds/{build_id}")
    with here.farm.seeding() as seeder:
        lines = "".join(f"#9 1.0 {text}\n" for text in HOSTILE)
        seeder.add_log(seeder.session.get_one(Build, build_id), lines)
    expect(page.locator("#lines")).to_contain_text("<script>alert(1)</script>")
    live = page.locator("#lines bdi").all_inner_texts()
    assert page.locator("#lines img, #lines script").count() == 0
    page.reload()
    assert page.locator("#lines bdi").all_inner_texts() == live, "script and server disagree"
    script = "async texts => { const m = await import('/static/logtext.js'); return texts.map(m.clean); }"
    cleaned = page.evaluate(script, list(HOSTILE))
    assert cleaned == [pages_log.clean(text) for text in HOSTILE]


def test_the_list_keeps_itself_true(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        build_id = seeder.running(5).id
    page = here.page
    page.reload()
    row = page.locator(f"#build-{build_id}")
    expect(row.locator(".status")).to_have_text("running")
    row.locator(".open").focus()
    finish(here.farm, build_id)
    with here.farm.seeding() as seeder:
        newer = seeder.waiting(1, WaitReason.NO_WORKER).id
    expect(row.locator(".status")).to_have_text("succeeded", timeout=10_000)
    expect(row.locator(".open")).to_be_focused()
    expect(page.locator(f"#build-{newer} .note")).to_contain_text("No worker is connected")
    assert page.locator("[data-row]").first.get_attribute("id") == f"build-{newer}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_on_a_phone(visit: Open, scheme: str) -> None:
    here = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    with here.farm.seeding() as seeder:
        seeder.history(5)
        build_id = seeder.running(5).id
        build = seeder.session.get_one(Build, build_id)
        build.ref, build.pull_request = "refs/heads/" + "a-very-long-branch-name-" * 9, None
        seeder.add_log(build, "#9 1.0 " + "x" * 900 + "\n")
    for path in ("/builds", f"/builds/{build_id}", "/workers", "/projects"):
        here.page.goto(here.address + path)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert here.page.evaluate(wide) <= 0, path


def test_every_field_and_button_has_a_name(visit: Open) -> None:
    here = visit()
    with here.farm.seeding() as seeder:
        build_id = seeder.build(created_at=seeder.now - timedelta(minutes=3)).id
    for path in ("/builds", f"/builds/{build_id}", "/workers"):
        here.page.goto(here.address + path)
        snapshot = here.page.locator("body").aria_snapshot()
        nameless = re.findall(
            r"^\s*- (?:button|textbox|searchbox|link|combobox)(?!.*\").*$", snapshot, re.MULTILINE
        )
        assert not nameless, (path, nameless)
