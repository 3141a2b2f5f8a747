"""Claims that no watch tells of are remembered for a moment, and only while they exist."""

from dataclasses import dataclass, field

from qwensft_operator.runtime.kube import CLAIMS
from qwensft_operator.runtime.reader import Reader
from qwensft_operator.runtime.store import Store

from .fakes import FakeKube, make_store


@dataclass
class Scene:
    """A reader that hears of nothing."""

    kube: FakeKube = field(default_factory=FakeKube)
    time: float = 0.0

    def __post_init__(self) -> None:
        store: Store = make_store(self.kube)
        self.reader = Reader(self.kube, store, lambda *_: False, lambda: self.time)

    async def exists(self, *, live: bool = False) -> bool:
        return await self.reader.claim("team", "data", live=live) is not None

    def make(self) -> None:
        self.kube.put(CLAIMS, "team", {"metadata": {"name": "data"}})


async def test_a_claim_that_is_made_after_it_was_missed_is_there_at_once() -> None:
    scene = Scene()
    assert not await scene.exists(live=True)
    scene.make()
    assert await scene.exists()


async def test_a_claim_is_read_once_in_a_while() -> None:
    scene = Scene()
    scene.make()
    for at in (0.0, 5.0, 14.0):
        scene.time = at
        assert await scene.exists()
    assert scene.kube.calls == [("get", "persistentvolumeclaims", "data")]
    scene.time = 15.0
    assert await scene.exists()
    assert len(scene.kube.calls) == 2


async def test_a_claim_that_a_live_read_does_not_find_is_forgotten() -> None:
    scene = Scene()
    scene.make()
    assert await scene.exists()
    scene.kube.remove(CLAIMS, "team", "data")
    assert not await scene.exists(live=True)
    assert not await scene.exists()
