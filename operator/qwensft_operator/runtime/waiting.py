"""Which runs wait for another run: what happens to that one is news for them, and for those that wait for them.

The latter stand in a circle, perhaps, which has been closed or is open again.
"""

from __future__ import annotations

from qwensft_operator import plan
from qwensft_operator.runtime.kinds import Key
from qwensft_operator.runtime.kube import Manifest

_LIFE = (("metadata", "uid"), ("metadata", "deletionTimestamp"), ("status", "completionTime"))


class Waiting:
    """Runs by the one that they wait for."""

    def __init__(self) -> None:
        self._by_source: dict[Key, set[Key]] = {}

    def changed(self, key: Key, before: Manifest | None, after: Manifest | None) -> None:
        """A run has become another one; None: it is not known, or over."""
        old, new = (plan.awaited_by(manifest) if manifest else None for manifest in (before, after))
        if old == new:
            return
        if old is not None:
            waiting = self._by_source[key[0], old]
            waiting.discard(key)
            if not waiting:
                del self._by_source[key[0], old]
        if new is not None:
            self._by_source.setdefault((key[0], new), set()).add(key)

    def on(self, source: Key) -> list[Key]:
        """Return the runs that wait for this one, which need not exist, and those that wait for them."""
        found: set[Key] = set()
        new = set(self._by_source.get(source, ()))
        while new:
            found |= new
            new = {key for waited in new for key in self._by_source.get(waited, ())} - found
        return sorted(found)


def is_news(before: Manifest | None, after: Manifest | None) -> bool:
    """Whether those who wait for a run want to know: it was created, has ended, goes on, or is being deleted.

    Or it waits itself no longer for the same one, so that there is no circle any more.
    """
    if before is None or after is None or plan.awaited_by(before) != plan.awaited_by(after):
        return True
    return any(_at(before, *path) != _at(after, *path) for path in _LIFE)


def _at(manifest: Manifest, part: str, name: str) -> object:
    return (manifest.get(part) or {}).get(name)
