"""Latency reports of runs, and the wish for one: asked for on a page, met by a runner."""

from __future__ import annotations

import json
import time
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from compression.errors import InvalidInput, StoreError
from compression.runs.database import facts, put_fact, runs
from compression.runs.records import Entries
from compression.runs.results import LatencyReport, State

_WISH, _REPORT = "latency-wanted", "latency"
QUEUED, RUNNING, FAILED = "queued", "running", "failed"
LatencyRequest = dict[str, Any]


class LatencyRequests(Entries):
    """Runs, with the latency reports that there are and those that are asked for."""

    def delete(self, run_id: str) -> None:
        """Remove a run for good, with all that is kept of it."""
        super().delete(run_id)
        with self._write() as c:
            c.execute(facts.delete().where(_named(run_id, _REPORT) | _named(run_id, _WISH)))

    def put_latency(self, run_id: str, report: LatencyReport) -> None:
        """Keep a run's latency report, replacing the one before. No run, no report."""
        with self._write() as c:
            if c.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first():
                put_fact(c, _REPORT, run_id, report.model_dump(mode="json"))

    def latency(self, run_id: str) -> LatencyReport | None:
        """The latency report of a run, or None.

        Raises:
            StoreError: another version of this program wrote it.
        """
        body = self.fact(_REPORT, run_id)
        try:
            return None if body is None else LatencyReport.model_validate_json(json.dumps(body))
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise StoreError(
                f"store: the latency report of run {run_id} cannot be read (field {field}); "
                "it was written by another version of this program: measure it again"
            ) from None

    def request_latency(self, run_id: str) -> None:
        """Ask for a latency report; what is asked for already is not asked for again.

        Raises:
            InvalidInput: there is no such run, or it cannot be made again to be timed.
        """
        run = self.get(run_id).run
        if run.state is not State.DONE:
            raise InvalidInput("run", run_id, f"a run that is done; this one is {run.state}")
        if run.stopped_early and self.file(run.id) is None:
            raise InvalidInput("run", run_id, "one whose file was kept, for it was stopped early")
        old = self.latency_request(run.id)
        if old is None or old["state"] == FAILED:
            self.put_fact(_WISH, run.id, _wish(QUEUED))

    def latency_request(self, run_id: str) -> LatencyRequest | None:
        """What has become of the wish, or None if there is none (any more).

        `state` is queued, running or failed; `message` how far it is, or why it failed.
        """
        return self.fact(_WISH, run_id)

    def claim_latency(self, owner: str) -> str | None:
        """Take the oldest wish for `owner` and mark it running: the run's id, or None."""
        for run_id, old in sorted(self._wishes(QUEUED), key=lambda wish: wish[1]["time"]):
            if self._change(run_id, old, _wish(RUNNING, owner=owner)):
                return run_id
        return None

    def report_latency(self, run_id: str, owner: str, message: str | None = None) -> bool:
        """Say that the report is being made, and how far it is. False if nobody wants it here."""
        old = self._held(run_id, owner)
        if old is None:
            return False
        said = old["message"] if message is None else message
        return self._change(run_id, old, _wish(RUNNING, said, owner))

    def fulfil_latency(self, run_id: str, owner: str, report: LatencyReport) -> None:
        """Keep the report that was wished for; the wish is gone."""
        if self._held(run_id, owner) is not None:
            self.put_latency(run_id, report)
            with self._write() as c:
                c.execute(facts.delete().where(_named(run_id, _WISH)))

    def fail_latency(self, run_id: str, owner: str, reason: str) -> None:
        """The wish cannot be met; the reason is its message."""
        old = self._held(run_id, owner)
        if old is not None:
            self._change(run_id, old, _wish(FAILED, reason))

    def release_latency(self, owner: str) -> None:
        """Give back the wishes that `owner` had taken, because it is going away in good order."""
        for run_id, old in self._wishes(RUNNING):
            if old["owner"] == owner:
                self._change(run_id, old, _wish(QUEUED))

    def recover_latency(self, silent_seconds: float) -> None:
        """Give up the wishes that nobody has spoken for in so many seconds."""
        for run_id, old in self._wishes(RUNNING):
            if old["time"] < time.time() - silent_seconds:
                self._change(run_id, old, _wish(FAILED, "It was interrupted. Ask for it again."))

    def _held(self, run_id: str, owner: str) -> LatencyRequest | None:
        wish = self.latency_request(run_id)
        mine = wish is not None and wish["state"] == RUNNING and wish["owner"] == owner
        return wish if mine else None

    def _wishes(self, state: str) -> list[tuple[str, LatencyRequest]]:
        with self._read() as c:
            rows = c.execute(sa.select(facts.c.name, facts.c.body).where(facts.c.kind == _WISH))
            found = [(row.name, json.loads(row.body)) for row in rows]
        return [(run_id, wish) for run_id, wish in found if wish["state"] == state]

    def _change(self, run_id: str, old: LatencyRequest, new: LatencyRequest) -> bool:
        """Replace a wish if it is still as it was read. Says whether it did."""
        unchanged = facts.c.body == json.dumps(old)
        with self._write() as c:
            done = c.execute(
                facts.update().where(_named(run_id, _WISH), unchanged).values(body=json.dumps(new))
            )
        return done.rowcount == 1


def _wish(state: str, message: str = "", owner: str | None = None) -> LatencyRequest:
    return {"state": state, "message": message, "owner": owner, "time": time.time()}


def _named(run_id: str, kind: str) -> sa.ColumnElement[bool]:
    return (facts.c.kind == kind) & (facts.c.name == run_id)
