"""A peer's pod that is gone for good is noticed; a moment without an answer is not."""

from qwensft_trainer.training.peers import GONE_SECONDS, Peers


class Cluster:
    def __init__(self) -> None:
        self.now = 0.0
        self.missing: set[str] = set()
        self.asked: list[str] = []

    def resolves(self, name: str) -> bool:
        self.asked.append(name)
        return name not in self.missing

    def peers(self, master: str = "demo-train-1-0.demo-train", nodes: int = 3) -> Peers:
        return Peers(master, nodes, resolves=self.resolves, clock=lambda: self.now)


def test_every_pod_of_the_gang_is_looked_up_by_its_own_name() -> None:
    cluster = Cluster()
    assert cluster.peers().gone() is None
    assert cluster.asked == [f"demo-train-1-{rank}.demo-train" for rank in range(3)]


def test_a_peer_is_gone_only_after_its_name_has_been_missing_for_a_while() -> None:
    cluster = Cluster()
    peers = cluster.peers()
    cluster.missing = {"demo-train-1-2.demo-train"}
    assert peers.gone() is None
    cluster.now = GONE_SECONDS
    assert peers.gone() == "demo-train-1-2.demo-train"


def test_a_name_that_comes_back_starts_anew() -> None:
    cluster = Cluster()
    peers = cluster.peers()
    for now, missing in ((0.0, True), (15.0, False), (GONE_SECONDS, True)):
        cluster.now, cluster.missing = now, {"demo-train-1-1.demo-train"} if missing else set()
        assert peers.gone() is None


def test_a_lone_process_and_a_plain_host_name_have_no_peers_to_look_up() -> None:
    cluster = Cluster()
    assert cluster.peers(nodes=1).gone() is None
    assert cluster.peers(master="localhost", nodes=2).gone() is None
    assert cluster.asked == []
