"""One attempt, from claim to finish, and the one place where an error becomes an outcome.

    claim -> fetch -> resolved -> (may we push?) -> build -> publish -> tags -> finish -> clean up

Nothing here knows HTTP, Docker or git: see control.py, buildx.py, git.py.
"""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace

import structlog

from farm.errors import AttemptCancelled, AttemptError, StaleAttempt
from farm.protocol import ClaimAnswer, Finish, Publish, Resolved
from farm.reasons import Fault, Reason
from farm.references import parse_image_reference
from farm.states import Outcome, Phase
from workers import source
from workers.answers import ControlRefused, ControlSilent, NotEnrolled
from workers.attemptdir import AttemptDir, Claimed
from workers.buildx import BuildOrder, labels_of
from workers.control import AttemptControl, insist
from workers.git import FetchOrder
from workers.lease import Lease
from workers.logship import LogShipper
from workers.masking import mask_text, patterns_of
from workers.publishing import ask_to_publish, move_tags
from workers.registry import Registries
from workers.reporting import End, Reporter, Timeline, fault_of
from workers.stop import HandedBack, Stop
from workers.toolbox import Toolbox

log = structlog.get_logger()

CLAIM_FOR_S = 30.0
"""How long a claim is tried: after that the control plane places the part anew."""
CHECK_S = 0.2
MESSAGE_CHARACTERS = 2000


class Attempt:
    """One attempt at one part on this worker."""

    def __init__(self, tools: Toolbox, part: int, number: int) -> None:
        self._tools = tools
        self._control = tools.control.attempt(part, number, secrets.token_hex(16))
        self._reporter = Reporter(self._control, tools.spool)
        self._claimed = False
        self._reported = False

    def carry_out(self) -> None:
        """Run it and report how it ended. Returns quietly when the claim is void."""
        claim = self._claim()
        if claim is None:
            return
        self._claimed = True
        tools, control = self._tools, self._control
        stop = Stop(timeout_s=claim.timeout_s)
        log_path = tools.spool.log_path(control.part, control.number, control.claim_token)
        with (
            AttemptDir.create(
                tools.tmp, Claimed(control.part, control.number, control.claim_token)
            ) as folder,
            Lease(control, stop, heartbeat_s=claim.heartbeat_s, shutdown=tools.shutdown) as lease,
            tools.cancels.watching(control.name, lease.hurry),
            LogShipper(control, stop, log_path, claim.log_limit) as shipper,
        ):
            recipe = _Recipe(
                tools, control, claim, folder=folder, stop=stop, lease=lease, shipper=shipper
            )
            try:
                end = recipe.run()
            except Exception as exc:
                self._deliver(fault_of(exc), folder, shipper)  # with the log, up to where it broke
                raise
            self._deliver(end, folder, shipper)

    def _deliver(self, end: End | None, folder: AttemptDir, shipper: LogShipper) -> None:
        folder.forget_credentials()
        self._reporter.deliver(end, shipper)
        self._reported = True

    def report_fault(self, error: BaseException) -> None:
        """The worker itself failed: say so, so that the part does not wait for its lease."""
        if self._claimed and not self._reported:
            self._reporter.report(fault_of(error))

    def _claim(self) -> ClaimAnswer | None:
        try:
            claim = insist(self._control.claim, wait=time.sleep, for_s=CLAIM_FOR_S)
        except StaleAttempt:
            log.info("claim_void", attempt=self._control.name)
        except (ControlSilent, NotEnrolled, ControlRefused) as exc:
            log.warning("claim_failed", attempt=self._control.name, error=str(exc))
        else:
            log.info("attempt_started", attempt=self._control.name, build=claim.build_id)
            return claim
        return None


class _Recipe:
    """The steps between claim and finish."""

    def __init__(
        self,
        tools: Toolbox,
        control: AttemptControl,
        claim: ClaimAnswer,
        *,
        folder: AttemptDir,
        stop: Stop,
        lease: Lease,
        shipper: LogShipper,
    ) -> None:
        self._tools = tools
        self._control = control
        self._claim = claim
        self._spec = claim.spec
        self._folder = folder
        self._stop = stop
        self._lease = lease
        self._shipper = shipper
        self._times = Timeline()
        logins = claim.credentials.registries
        self._registries = Registries(tools.registry_client, logins, insecure_ok=tools.insecure_ok)
        git = claim.credentials.git
        hidden = [*claim.credentials.secrets.values(), *(login.password for login in logins)]
        self._patterns = patterns_of([*hidden, *([git.password] if git else [])])

    def run(self) -> End | None:
        """Carry the recipe out; None: the attempt is void, report nothing."""
        try:
            return self._end(Outcome.SUCCEEDED, *self._succeed())
        except StaleAttempt:
            log.info("attempt_void", attempt=self._control.name)
            return None
        except HandedBack:
            return End(None, "the worker stops")
        except AttemptCancelled:
            return self._end(Outcome.CANCELLED, reason=Reason.REQUESTED)
        except AttemptError as exc:
            outcome = Outcome.FAILED if exc.reason.fault is Fault.PROJECT else Outcome.ERRORED
            return self._end(outcome, reason=exc.reason, message=exc.message)

    def _succeed(self) -> tuple[str, int | None]:
        """The digest and size of the image, its tags where they belong."""
        published = self._claim.published
        if published is not None:
            return self._put_tags(published.digest, published.size), published.size
        digest = self._build()
        if self._spec.push:
            size = self._size_in_registry(digest)
            return self._put_tags(digest, size), size
        name = self._local_name()
        try:
            return digest, self._tools.engine.image_size(name)
        finally:
            self._tools.engine.untag(name)

    def _build(self) -> str:
        missing = [s for s in self._spec.secrets if s not in self._claim.credentials.secrets]
        if missing:
            raise AttemptError(Reason.SECRET_MISSING, f"not stored: {', '.join(missing)}")
        beside = ThreadPoolExecutor(1, thread_name_prefix="push")
        try:
            order = self._prepare(beside.submit(self._check_push))
        finally:
            # Not waited for: a registry that hangs must not hold a cancel.
            beside.shutdown(wait=False, cancel_futures=True)
        self._lease.phase = Phase.BUILDING
        with self._times.phase("build"):
            return self._tools.buildx.build(
                order,
                self._folder,
                self._stop,
                patterns=self._patterns,
                on_line=self._shipper.line,
                on_step=self._shipper.step,
            ).digest

    def _prepare(self, allowed: Future[None]) -> BuildOrder:
        """Fetch, agree on the commit, export; the registry's word comes meanwhile."""
        spec, stop = self._spec, self._stop
        name = f"{self._control.name}.{self._control.claim_token[:8]}"
        wanted = FetchOrder(
            spec.repository, spec.git_ref, self._claim.sha, name, self._claim.trusted_host
        )
        self._say(f"fetching {spec.git_ref} of {spec.repository}")
        credential = self._claim.credentials.git
        with self._times.phase("fetch"):
            fetched = self._tools.git.fetch(wanted, credential, self._folder, stop)
        found = Resolved(sha=fetched.sha, commit_date=fetched.commit_date)
        commit = insist(lambda: self._control.resolved(found), wait=stop.wait)
        if commit.sha != fetched.sha:
            wanted = replace(wanted, sha=commit.sha)
            fetched = self._tools.git.fetch(wanted, credential, self._folder, stop)
        with self._times.phase("export"):
            export = self._tools.git.export(fetched, self._folder, stop)
        context, dockerfile = source.locate(export, spec.context, spec.file)
        self._say(f"commit {fetched.sha} on {self._tools.control.worker}")
        while not wait_for([allowed], timeout=CHECK_S).done:
            stop.check()
        allowed.result()
        self._folder.write_logins(self._claim.credentials.registries)
        stop.check()
        return BuildOrder(
            spec=spec,
            platform=self._claim.platform,
            context=context,
            dockerfile=dockerfile,
            labels=labels_of(
                spec, self._claim.farm_labels, sha=fetched.sha, commit_date=fetched.commit_date
            ),
            names=self._slot_names() if spec.push else [self._local_name()],
            secrets=self._folder.write_secrets(
                {name: self._claim.credentials.secrets[name] for name in spec.secrets}
            ),
        )

    def _check_push(self) -> None:
        if self._spec.push:
            for name in self._slot_names():
                self._registries.check_push(name)

    def _slot(self) -> str:
        return f"farm-{self._tools.control.worker}-{self._tools.slot}"

    def _slot_names(self) -> list[str]:
        """A name of this slot's own in every repository that a tag names."""
        images = dict.fromkeys(parse_image_reference(tag).name for tag in self._spec.tags)
        return [f"{image}:{self._slot()}" for image in images]

    def _local_name(self) -> str:
        return f"{self._slot()}/local:{self._control.name}"

    def _size_in_registry(self, digest: str) -> int:
        image = parse_image_reference(self._slot_names()[0])
        manifest = self._registries.manifest(image, digest)
        return self._registries.size(image, manifest, self._claim.platform)

    def _put_tags(self, digest: str, size: int | None) -> str:
        self._lease.phase = Phase.TAGGING
        resumed = self._claim.published is not None
        if resumed:
            self._stop.commit()
        self._stop.check()
        image = Publish(digest=digest, size=size)
        with self._times.phase("tags"):
            try:
                tags = move_tags(
                    self._registries,
                    digest,
                    lambda: ask_to_publish(self._control, image, self._stop),
                    maybe_moved=self._spec.tags if resumed else (),
                )
            except ControlRefused as exc:
                if exc.code == "cancel_requested":
                    raise AttemptCancelled("cancelled before it was published") from exc
                raise
        for tag in tags:
            self._say(f"tag {tag} is {digest}")
        return digest

    def _end(
        self,
        outcome: Outcome,
        digest: str | None = None,
        size: int | None = None,
        *,
        reason: Reason | None = None,
        message: str = "",
    ) -> End:
        message = mask_text(message, self._patterns)[:MESSAGE_CHARACTERS]
        self._say(" ".join(str(word) for word in (outcome, reason, message) if word))
        return End(
            Finish(
                outcome=outcome,
                reason=reason,
                message=message,
                digest=digest,
                size=size,
                phases=self._times.seconds,
            )
        )

    def _say(self, text: str) -> None:
        """A line of the farm's own in the build's log."""
        for line in mask_text(text, self._patterns).splitlines():
            self._shipper.line(f"#0 {line}")
