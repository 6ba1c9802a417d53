"""Latency reports of runs: asked for on the page, made by a runner or by the command line."""

from __future__ import annotations

from compression.runs.database import Database
from compression.runs.documents import Documents, Files
from compression.runs.jobs import Job, Jobs, Kind, end, put_job
from compression.runs.records import Runs, file_not_kept, require_done
from compression.runs.results import ACTIVE, LatencyReport, State


class LatencyReports(Documents[LatencyReport]):
    """The latency reports that there are, and requests for one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "latency", LatencyReport, "latency report")

    def request(self, run_id: str) -> None:
        """Queue a job for a latency report, unless there is one under way.

        Raises:
            InvalidInput: there is no such run, or it cannot be made again to be timed.
        """
        run = Runs(self._database).get(run_id).run
        require_done(run)
        if run.stopped_early and Files(self._database).get(run.id) is None:
            raise file_not_kept(run)
        job = Jobs(self._database).get(run.id, Kind.LATENCY)
        if job is None or job.state not in ACTIVE:
            with self._database.write() as c:
                put_job(c, run.id, Kind.LATENCY, State.QUEUED)

    def finish(self, job: Job, report: LatencyReport) -> bool:
        """End a claimed job with its report. False if it was no longer its owner's."""
        with self._database.write() as c:
            ended = end(c, job, State.DONE)
            if ended:
                self.put_within(c, job.run_id, report)
        return ended
