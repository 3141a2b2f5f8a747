"""Figures from a pod: all of them, only numbers, and within narrow limits."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from qwensft.api.v1alpha1 import Progress
from qwensft_operator.plan.types import Scrape
from qwensft_operator.runtime.scrape import Scraper, parse
from qwensft_operator.runtime.silence import Silences
from qwensft_trainer.base import metrics_server
from qwensft_trainer.trackers.told import Board, Told
from qwensft_trainer.training import figures, progress

FULL = """
# HELP qwensft_train_step Optimiser steps done.
# TYPE qwensft_train_step gauge
qwensft_train_step 120.0
qwensft_train_total_steps 500.0
qwensft_train_epoch 0.72
qwensft_train_loss 1.25
qwensft_train_initial_loss 3.5
qwensft_train_eval_loss 1.5
qwensft_train_learning_rate 4.8e-06
qwensft_train_tokens_per_second 12345.6
qwensft_train_estimated_remaining_seconds 8100.7
qwensft_train_last_update_timestamp_seconds 1.7e9
qwensft_train_non_finite_loss 0.0
python_gc_objects_collected_total{generation="0"} 12.0
"""


def test_all_figures_are_read() -> None:
    assert parse(FULL) == Scrape(
        step=120,
        total_steps=500,
        epoch=0.72,
        loss=1.25,
        initial_loss=3.5,
        eval_loss=1.5,
        learning_rate=4.8e-06,
        tokens_per_second=12345.6,
        estimated_remaining_seconds=8100,
    )


def test_the_bytes_of_a_merge_are_read() -> None:
    text = "qwensft_merge_bytes_done 3.1e9\nqwensft_merge_bytes_total 6.2e9\nqwensft_other_bytes_done 1\n"
    assert parse(text) == Scrape(bytes_done=3_100_000_000, bytes_total=6_200_000_000)


def test_trackers_are_read_from_what_the_trainer_serves(tmp_path: Path) -> None:
    board = Board(tmp_path / "told.json")
    board.tell(Told("mlflow", 'http://mlflow/#/"x"', "7", 3))
    board.tell(Told("wandb"))
    served = figures.figures(lambda: progress.Progress(step=3), told=tmp_path / "told.json")
    scrape = parse(metrics_server.render(served).decode())
    assert scrape.step == 3
    assert [(t.tracker, t.url, t.run_id, t.undelivered) for t in scrape.trackers] == [
        ("mlflow", 'http://mlflow/#/"x"', "7", 3),
        ("wandb", "", "", 0),
    ]


def test_a_count_of_lines_that_is_none_tells_of_no_tracker() -> None:
    assert parse('qwensft_train_tracker_undelivered_lines{tracker="mlflow"} NaN\n').trackers == ()


def test_a_figure_that_is_absent_is_unknown() -> None:
    assert parse("qwensft_train_step 3\n") == Scrape(step=3)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_loss_that_is_no_number_is_left_out_and_flagged(value: str) -> None:
    assert parse(f"qwensft_train_step 7\nqwensft_train_loss {value}\n") == Scrape(step=7, non_finite_loss=True)


def test_the_trainers_own_flag_counts_too() -> None:
    assert parse("qwensft_train_loss 2.0\nqwensft_train_non_finite_loss 1\n") == Scrape(loss=2.0, non_finite_loss=True)


def test_another_non_finite_figure_is_left_out_silently() -> None:
    assert parse("qwensft_train_estimated_remaining_seconds +Inf\n") == Scrape()


@pytest.mark.parametrize("name", ["train_step", "train_total_steps", "train_loss", "merge_bytes_done"])
def test_a_figure_that_no_status_can_hold_is_left_out(name: str) -> None:
    assert parse(f"qwensft_{name} 1e300\n") == Scrape()


class Pod:
    """A server that answers as told."""

    def __init__(self) -> None:
        self.response: web.StreamResponse = web.Response(text=FULL)
        self.delay = 0.0
        self.requests = 0

    async def handle(self, _: web.Request) -> web.StreamResponse:
        self.requests += 1
        await asyncio.sleep(self.delay)
        return self.response


@pytest.fixture
async def pod() -> AsyncIterator[tuple[Pod, Scraper]]:
    behaviour = Pod()
    application = web.Application()
    application.router.add_get("/{path:.*}", behaviour.handle)
    async with TestServer(application, host="127.0.0.1") as server:
        assert server.port is not None
        scraper = Scraper(server.port)
        yield behaviour, scraper
        await scraper.close()


async def test_a_pod_is_scraped_over_http(pod: tuple[Pod, Scraper]) -> None:
    _, scraper = pod
    scrape = await scraper.scrape("127.0.0.1")
    assert scrape is not None
    assert scrape.step == 120


@pytest.mark.parametrize(
    "response",
    [
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(status=500, text=FULL),
        web.Response(text=FULL + "#" * 70_000),
        web.Response(text="qwensft_train_step one\n"),
        web.Response(text="{, =qwensft_train_step 1\n"),
        web.Response(body=b"\xff\xfe"),
    ],
    ids=["redirect", "error", "too large", "not Prometheus text", "nothing that its parser foresaw", "not UTF-8"],
)
async def test_anything_but_modest_prometheus_text_is_no_scrape(
    pod: tuple[Pod, Scraper], response: web.Response
) -> None:
    behaviour, scraper = pod
    behaviour.response = response
    assert await scraper.scrape("127.0.0.1") is None
    assert behaviour.requests == 1


async def test_a_pod_that_does_not_answer_is_left_after_two_seconds(pod: tuple[Pod, Scraper]) -> None:
    behaviour, scraper = pod
    behaviour.delay = 30
    started = asyncio.get_running_loop().time()
    assert await scraper.scrape("127.0.0.1") is None
    assert 1.5 < asyncio.get_running_loop().time() - started < 20


async def test_a_pod_that_is_gone_is_no_scrape(unused_tcp_port: int) -> None:
    scraper = Scraper(unused_tcp_port)
    assert await scraper.scrape("127.0.0.1") is None
    assert await scraper.scrape("::1") is None
    await scraper.close()


def test_every_figure_that_the_trainer_serves_and_the_status_shows_is_read(tmp_path: Path) -> None:
    names = [figure.name for figure in fields(progress.Progress) if figure.name not in ("device", "attempt")]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    progress.write(tmp_path / "progress.json", progress.Progress(**numbers))  # type: ignore[arg-type]
    scrape = parse(metrics_server.render(figures.figures(lambda: progress.read(tmp_path / "progress.json"))).decode())
    shared = {name: number for name, number in numbers.items() if name in Progress.model_fields}
    assert len(shared) > 7
    assert {name: getattr(scrape, name, None) for name in shared} == shared


async def test_pods_that_do_not_answer_occupy_half_of_the_workers_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0

    async def hang(_: str) -> str:
        nonlocal under_way, most
        under_way, most = under_way + 1, max(most, under_way + 1)
        await asyncio.sleep(0.01)
        under_way -= 1
        raise TimeoutError

    scraper = Scraper()
    monkeypatch.setattr(scraper, "_fetch", hang)
    addresses = [f"10.0.0.{number}" for number in range(80)]
    assert await asyncio.gather(*map(scraper.scrape, addresses)) == [None] * 80
    assert most == 8
    started = asyncio.get_running_loop().time()
    assert await scraper.scrape(addresses[0]) is None
    assert asyncio.get_running_loop().time() - started < 0.01, "it is left alone for a while"


async def test_a_pod_that_has_been_silent_for_minutes_is_called_unreachable_until_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts: list[str | Exception] = [OSError("unreachable"), OSError("unreachable"), "qwensft_train_step 3\n"]
    clock = [0.0]

    async def fetch(_: str) -> str:
        text = texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return text

    scraper = Scraper()
    scraper._silences = Silences(lambda: clock[0])
    monkeypatch.setattr(scraper, "_fetch", fetch)
    assert await scraper.scrape("10.0.0.7") is None
    clock[0] = 130
    assert await scraper.scrape("10.0.0.7") == Scrape(unreachable=True)
    assert await scraper.scrape("10.0.0.7") == Scrape(unreachable=True), "also while it is not asked"
    clock[0] = 160
    assert await scraper.scrape("10.0.0.7") == Scrape(step=3)
    assert texts == []
