"""Latency reports of runs: asked for on the page, made by a runner or by the command line."""

from __future__ import annotations

from compression.runs.database import Database
from compression.runs.documents import Documents
from compression.runs.jobs import Job, Kind, end
from compression.runs.records import Runs
from compression.runs.results import LatencyReport, State


class LatencyReports(Documents[LatencyReport]):
    """The latency reports that there are, and requests for one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "latency", LatencyReport, "latency report")

    def request(self, run_id: str) -> None:
        """Queue a job for a latency report, unless there is one under way.

        Raises:
            InvalidInput: there is no such run, or it cannot be made again to be timed.
        """
        Runs(self._database).request(run_id, Kind.LATENCY)

    def finish(self, job: Job, report: LatencyReport) -> bool:
        """End a claimed job with its report. False if it was no longer its owner's."""
        with self._database.write() as c:
            ended = end(c, job, State.DONE)
            if ended:
                self.put_within(c, job.run_id, report)
        return ended
