"""Whether the machine was busy with other things while models were timed."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, fields

from compression.measure.cpu_pinning import BackgroundLoad

# The system counts time in ticks of 10 ms: over less than this, a share of it says nothing.
_LEAST_SECONDS = 0.1
# Other systems count differently, or not at all.
_KNOWS_SWITCHES = sys.platform == "linux"


@dataclass(frozen=True)
class MachineLoad:
    """What was read while models were timed; None where it could not be.

    Args:
        waiting: share of the time for which no thread of this process had a core.
        switches: how often a second the system took a core from one of its threads.
        others: share of the machine that other programs used.
        control: how far the ratio of a model to itself was from 1.
    """

    waiting: float | None = None
    switches: float | None = None
    others: float | None = None
    control: float | None = None


# Up to here a machine is quiet. Seen on two cores (AMD EPYC), the smallest model against its int8
# graph, a second each; alone, the ratio of their medians is 0.92:
# - waiting: a core to itself 0.01 to 0.05, ratio 0.917 to 0.922. With 0.15 it is off by 1.5 % at
#   times, with 0.5 by 3 %, beside one or two programs that never pause (0.6 to 0.85) by 7 %.
# - switches: 14 to 29 on a core to itself, 40 to 260 on a shared one, and 46,000 to 61,000 where
#   the two threads of a call had to share one: there the process computes all the time, and yet
#   the ratio was anything from 0.42 to 0.56.
# - others: a second core that is busy all the time (0.51 to 0.53) changed nothing.
# - control: up to 0.02 with a core to itself (where memory happens to lie), up to 0.05 on a shared
#   one, up to 0.5 with two threads. It comes last: the ratio's interval holds it already.
LIMITS = MachineLoad(waiting=0.05, switches=100.0, others=0.6, control=0.1)


def strain(load: MachineLoad) -> float:
    """The reading that is highest for its limit, over that limit: above 1 the machine was busy."""
    names = [field.name for field in fields(load) if getattr(load, field.name) is not None]
    return max((getattr(load, name) / getattr(LIMITS, name) for name in names), default=0.0)


class LoadMeter:
    """Reads what the machine does, from now on."""

    def __init__(self) -> None:
        self._others = BackgroundLoad()
        self._wall, self._own = time.perf_counter(), time.process_time()
        self._switches = _switches()

    def read(self) -> MachineLoad:
        """What there was so far. It is right for a process that computes all the time."""
        wall, own = time.perf_counter() - self._wall, time.process_time() - self._own
        return MachineLoad(
            waiting=max(0.0, 1 - own / wall),
            switches=(_switches() - self._switches) / wall if _KNOWS_SWITCHES else None,
            others=self._others.share() if wall > _LEAST_SECONDS else None,
        )


def _switches() -> int:
    """How often the system took a core from this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
