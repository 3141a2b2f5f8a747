"""How far each training was when its figures were last read: newer than its status, which moves seldom.

Kept in memory alone. ADR 0102 says what for.
"""

from __future__ import annotations

from collections import OrderedDict

from qwensft_operator.plan.types import LARGEST_NUMBER, LastStep

_MOST = 10_000  # Jobs; of those that are over nobody asks any more


class LastSteps:
    """The last step by the UID of a Job."""

    def __init__(self) -> None:
        self._steps: OrderedDict[str, LastStep] = OrderedDict()

    def read(self, uid: str, step: int | None) -> None:
        """Figures of a Job have been read; None where they tell no step, and one that makes no sense counts as none."""
        if step is None or not 0 <= step <= LARGEST_NUMBER:
            return
        before = self._steps.pop(uid, None)
        apart = None if before is None else max(before.apart or 0, step - before.step)
        self._steps[uid] = LastStep(step, apart)
        if len(self._steps) > _MOST:
            self._steps.popitem(last=False)

    def of(self, uid: str) -> LastStep | None:
        """Return the last step of a Job, None when no figures have been read by this process."""
        return self._steps.get(uid)
