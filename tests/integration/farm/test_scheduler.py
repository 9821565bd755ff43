"""The scheduler: one leads, messages go out after the commit, a broker that is away loses nothing."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import redis
from sqlalchemy import select

from farm import db, fleet, sweep
from farm.broker import Dispatcher, make_celery
from farm.db import Database
from farm.model import Part, Presence, Worker
from farm.protocol import ATTEMPT_TASK, queue_of
from farm.reasons import WaitReason
from farm.scheduler import Message, Scheduler, hold_back, take_back
from farm.states import BuildStatus
from farm.wakeups import SCHEDULER_CHANNEL, Listener, Wakeups
from tests.factories import RecordingDispatcher, World, check_in, farm_settings, wait_until
from tests.services.redis import RedisServer

Make = Callable[..., Scheduler]


@pytest.fixture
def scheduler(world: World, fresh_redis: RedisServer, tmp_path: Path) -> Iterator[Make]:
    """Makes schedulers on the world's database."""
    wakeups = Wakeups(fresh_redis.url)
    settings = farm_settings(tmp_path, world.settings.database_url, redis_url=fresh_redis.url)

    def make(
        dispatcher: Dispatcher | None = None, *, database: Database | None = None
    ) -> Scheduler:
        return Scheduler(
            settings, database or world.database, dispatcher or RecordingDispatcher(), wakeups
        )

    world.now = real_now(world)
    yield make
    wakeups.close()


def real_now(world: World) -> datetime:
    with world.database.read() as session:
        return db.now(session)


def test_what_waits_is_placed_and_its_worker_told(world: World, scheduler: Make) -> None:
    world.worker("w1")
    build_id = world.build()
    dispatcher = RecordingDispatcher()
    assert scheduler(dispatcher).tick()
    part = world.part(build_id)
    assert dispatcher.sent == [Message("w1", part.id, 1)]
    assert part.placed_worker_id is not None
    assert part.waiting_reason is WaitReason.PLACED


def test_a_placed_part_is_not_sent_again(world: World, scheduler: Make) -> None:
    world.worker()
    world.build()
    dispatcher = RecordingDispatcher()
    active = scheduler(dispatcher)
    active.tick()
    active.tick()
    assert len(dispatcher.sent) == 1


def test_a_message_goes_out_after_the_commit(world: World, scheduler: Make) -> None:
    """Another connection already sees what the message tells of."""
    worker = world.worker()
    build_id = world.build()
    seen: list[int | None] = []

    def look(_message: Message) -> None:
        other = Database(world.settings.database_url)
        with other.write() as session:  # would wait for ever for an open transaction
            query = select(Part.placed_worker_id).where(Part.build_id == build_id)
            seen.append(session.scalars(query).one())
        other.dispose()

    scheduler(RecordingDispatcher(look)).tick()
    assert seen == [worker.id]


class BrokenDispatcher(RecordingDispatcher):
    """A broker that is away until it is mended."""

    mended = False

    def send(self, worker: str, part_id: int, attempt: int) -> None:
        super().send(worker, part_id, attempt)
        if not self.mended:
            raise OSError("connection refused")


def test_a_message_that_cannot_be_sent_loses_no_build(world: World, scheduler: Make) -> None:
    world.worker()
    build_id = world.build()
    other_id = world.build()
    broken = BrokenDispatcher()
    active = scheduler(broken)
    for attempts in (1, 2):
        assert active.tick()
        assert len(broken.sent) == attempts  # after the first refusal nothing more is tried
        for waiting in (build_id, other_id):
            part = world.part(waiting)
            assert (part.status, part.attempt) == (BuildStatus.QUEUED, 1)
            assert (part.placed_worker_id, part.placed_at) == (None, None)
    broken.mended = True
    assert active.tick()
    assert {message.part_id for message in broken.sent[2:]} == {
        world.part(build_id).id,
        world.part(other_id).id,
    }


def test_a_part_that_was_claimed_is_not_taken_back(world: World) -> None:
    """The message went out after all, though its sending failed."""
    worker, build_id = world.worker(), world.build()
    messages = world.place()
    world.claim(worker, build_id)
    with world.database.write() as session:
        take_back(session, messages)
    part = world.part(build_id)
    assert (part.status, part.placed_worker_id) == (BuildStatus.RUNNING, worker.id)


@pytest.mark.parametrize("fault", ["away", "full"])
def test_a_real_broker_that_refuses_does_not_end_the_scheduler(
    world: World, scheduler: Make, tmp_path: Path, fault: str
) -> None:
    world.worker()
    build_id = world.build()
    broker = RedisServer(tmp_path)
    broker.start()
    dispatcher = Dispatcher(broker.url)
    try:
        if fault == "full":
            make_full(broker)
        else:
            broker.kill()
        assert scheduler(dispatcher).tick()
        part = world.part(build_id)
        assert (part.status, part.placed_worker_id) == (BuildStatus.QUEUED, None)
    finally:
        dispatcher.close()
        broker.stop()


def make_full(broker: RedisServer) -> None:
    """Every command that would need memory is refused from now on."""
    with redis.Redis.from_url(broker.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")


def test_of_two_schedulers_one_is_active_and_the_other_takes_over(
    world: World, scheduler: Make
) -> None:
    first, second = scheduler(), scheduler()
    assert first.tick()
    assert not second.tick()
    assert first.tick()
    with world.database.write() as session:  # the first falls silent
        session.get_one(Presence, sweep.SCHEDULER).seen_at -= 2 * sweep.SCHEDULER_LEASE
    assert second.tick()
    assert not first.tick()


def test_the_one_that_stands_by_places_nothing(world: World, scheduler: Make) -> None:
    standing_by = RecordingDispatcher()
    assert scheduler().tick()
    world.worker()
    build_id = world.build()
    assert not scheduler(standing_by).tick()
    assert standing_by.sent == []
    assert world.part(build_id).placed_worker_id is None


def test_a_build_that_waits_says_why_within_a_round(world: World, scheduler: Make) -> None:
    build_id = world.build(runs_on=["gpu"])
    active = scheduler()
    active.tick()
    assert world.part(build_id).waiting_reason is WaitReason.NO_WORKER
    world.worker()
    active.tick()
    assert world.part(build_id).waiting_reason is WaitReason.UNSCHEDULABLE


def test_what_cannot_be_sent_says_so_and_goes_on_when_it_can(world: World) -> None:
    world.worker()
    build_id = world.build()
    with world.database.write() as session:
        assert hold_back(session) == [build_id]
        assert hold_back(session) == []
    assert world.part(build_id).waiting_reason is WaitReason.NO_BROKER
    assert len(world.place()) == 1


def test_a_worker_that_stops_gets_nothing_until_it_checks_in_again(world: World) -> None:
    worker = world.worker(stopping=True)
    build_id = world.build()
    assert world.place() == []
    assert world.part(build_id).waiting_reason is WaitReason.WORKERS_DRAINING
    with world.database.write() as session:
        fleet.check_in(session, session.get_one(Worker, worker.id), check_in(), now=world.now)
    assert len(world.place()) == 1


def test_an_engine_that_is_down_gets_nothing(world: World, scheduler: Make) -> None:
    world.worker(engine_ok=False)
    build_id = world.build()
    scheduler().tick()
    assert world.part(build_id).waiting_reason is WaitReason.WORKERS_OFFLINE


def test_a_disk_below_its_watermark_gets_nothing(world: World) -> None:
    world.worker(disk_free=10)
    world.settings = world.settings.model_copy(update={"disk_watermark": 11})
    build_id = world.build()
    assert world.place() == []
    assert world.part(build_id).waiting_reason is WaitReason.DISK_LOW


def test_a_placed_and_a_running_part_hold_their_slots(world: World) -> None:
    worker = world.worker(slots=2)
    first, _, third = world.build(), world.build(), world.build()
    assert len(world.place()) == 2
    world.claim(worker, first)
    assert world.place() == []
    world.hand_back(world.part(first))
    world.cancel(first)
    assert [message.part_id for message in world.place()] == [world.part(third).id]


def test_the_loop_runs_until_it_is_stopped_and_resigns(
    world: World, scheduler: Make, fresh_redis: RedisServer
) -> None:
    sent = threading.Event()
    active = scheduler(RecordingDispatcher(lambda _message: sent.set()))
    thread = threading.Thread(target=active.run)
    thread.start()
    try:
        world.worker()
        world.build()
        assert sent.wait(20)
    finally:
        active.stop()
        thread.join(20)
    assert not thread.is_alive()
    assert scheduler().tick()  # at once: the lease was given back


def test_while_redis_is_away_nothing_is_placed_and_builds_say_so(
    world: World, tmp_path: Path
) -> None:
    world.now = real_now(world)
    world.worker()
    build_id = world.build()
    server, sent = RedisServer(tmp_path), threading.Event()
    settings = farm_settings(tmp_path, world.settings.database_url, redis_url=server.url)
    dispatcher = RecordingDispatcher(lambda _message: sent.set())
    with Wakeups(server.url) as wakeups:
        active = Scheduler(settings, world.database, dispatcher, wakeups)
        thread = threading.Thread(target=active.run)
        thread.start()
        try:
            wait_until(lambda: world.part(build_id).waiting_reason is WaitReason.NO_BROKER)
            assert dispatcher.sent == []
            server.start()
            assert sent.wait(20)
        finally:
            active.stop()
            thread.join(20)
            server.stop()


def test_a_wake_up_is_heard(fresh_redis: RedisServer) -> None:
    heard = threading.Event()
    listener = Listener(fresh_redis.url, [SCHEDULER_CHANNEL], lambda _c, _t: heard.set())
    try:
        assert listener.connected.wait(10)
        with Wakeups(fresh_redis.url) as wakeups:
            wakeups.scheduler()
            assert heard.wait(10)
    finally:
        listener.close()


def test_wake_ups_without_redis_hold_nobody_up(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    wakeups = Wakeups(server.url)  # nobody listens there
    for build_id in range(100):
        wakeups.build(build_id)
    wakeups.close()


def test_a_listener_hears_again_after_redis_was_away(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    heard: list[str] = []
    listener = Listener(server.url, ["farm.builds"], lambda _c, text: heard.append(text))
    try:
        assert listener.connected.wait(10)
        server.kill()
        wait_until(lambda: not listener.connected.is_set())
        server.start()
        assert listener.connected.wait(20)
        with Wakeups(server.url) as wakeups:
            wakeups.build(7)
        wait_until(lambda: heard == ["7"])
    finally:
        listener.close()
        server.stop()


def test_a_message_holds_two_numbers_and_nothing_else(fresh_redis: RedisServer) -> None:
    dispatcher = Dispatcher(fresh_redis.url)
    dispatcher.send("w1", 12, 3)
    dispatcher.close()
    app = make_celery(fresh_redis.url)
    with app.connection_for_read() as connection, connection.SimpleQueue(queue_of("w1")) as queue:
        message = queue.get(timeout=10)
        message.ack()
    app.close()
    assert message.headers["task"] == ATTEMPT_TASK
    assert message.headers["id"] == "12.3"
    assert message.payload[0] == [12, 3]
    assert message.payload[1] == {}
    assert message.content_type == "application/json"


def test_a_worker_that_was_not_heard_of_lately_gets_nothing(world: World, scheduler: Make) -> None:
    worker = world.worker()
    with world.database.write() as session:
        row = session.get_one(Worker, worker.id)
        row.last_seen_at = world.now.replace(year=world.now.year - 1)
    build_id = world.build()
    scheduler().tick()
    assert world.part(build_id).waiting_reason is WaitReason.WORKERS_OFFLINE
