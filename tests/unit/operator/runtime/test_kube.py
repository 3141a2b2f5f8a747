"""The client against a small HTTP server: errors are told apart once, and requests are what Kubernetes expects."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from qwensft_operator.runtime.kube import (
    EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    QWENSFTJOBS,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Kube,
    KubeError,
    NamespaceTerminatingError,
    NotFoundError,
    TransientError,
    classify,
    kind_of_request,
)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request by `answer`, and keeps the requests."""

    def __init__(self) -> None:
        self.answer: Answer = self._empty
        self.requests: list[tuple[web.Request, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request, json.loads(body) if body else None))
        return await self.answer(request)

    @staticmethod
    async def _empty(_: web.Request) -> web.StreamResponse:
        return web.json_response({})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Kube]]:
    behaviour = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", behaviour.handle)
    async with TestServer(application) as http:
        kube = Kube(Configuration(host=str(http.make_url("")).rstrip("/")), 60)
        yield behaviour, kube
        await kube.close()


def status(reason: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "reason": reason, "message": message, "details": details}


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (400, status("BadRequest"), InvalidError),
        (401, status("Unauthorized"), TransientError),
        (403, status("Forbidden"), ForbiddenError),
        (403, status("Forbidden", causes=[{"reason": "NamespaceTerminating"}]), NamespaceTerminatingError),
        (404, status("NotFound"), NotFoundError),
        (409, status("AlreadyExists"), AlreadyExistsError),
        (409, status("Conflict"), ConflictError),
        (410, status("Expired"), TransientError),
        (422, status("Invalid"), InvalidError),
        (429, status("TooManyRequests"), TransientError),
        (500, status("InternalError"), TransientError),
        (503, {}, TransientError),
        (502, {"error": "Bad Gateway", "details": "upstream"}, TransientError),
        (504, status("Timeout"), TransientError),
    ],
)
def test_every_answer_has_one_kind_of_error(code: int, body: dict[str, Any], kind: type[KubeError]) -> None:
    error = classify(code, body)
    assert type(error) is kind
    assert error.status == code


def test_the_fields_that_a_refusal_names_are_kept() -> None:
    causes = [{"reason": "FieldValueInvalid", "field": "status.progress.step"}, {"reason": "Other"}]
    assert classify(422, status("Invalid", causes=causes)).fields == ("status.progress.step",)
    assert classify(422, status("Invalid")).fields == ()


def test_a_quota_is_told_from_missing_rights() -> None:
    refused = classify(403, status("Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: small'))
    denied = classify(403, status("Forbidden", 'jobs.batch is forbidden: User "x" cannot create resource "jobs"'))
    assert isinstance(refused, ForbiddenError)
    assert isinstance(denied, ForbiddenError)
    assert (refused.quota, denied.quota) == (True, False)


async def test_a_list_is_read_to_its_last_page(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server
    pages = {None: ("a", "next"), "next": ("b", "last"), "last": ("c", "")}

    async def answer(request: web.Request) -> web.StreamResponse:
        item, token = pages[request.query.get("continue")]
        return web.json_response({"metadata": {"continue": token}, "items": [{"metadata": {"name": item}}]})

    behaviour.answer = answer
    found = await kube.list(JOBS, "team", label_selector="qwensft.io/job=demo")
    assert [item["metadata"]["name"] for item in found] == ["a", "b", "c"]
    paths = {(request.path, request.query["labelSelector"]) for request, _ in behaviour.requests}
    assert paths == {("/apis/batch/v1/namespaces/team/jobs", "qwensft.io/job=demo")}


async def test_pages_are_handed_out_as_they_come(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server

    async def answer(request: web.Request) -> web.StreamResponse:
        token = "" if "continue" in request.query else "next"
        return web.json_response({"metadata": {"continue": token}, "items": [{"metadata": {"name": "run"}}]})

    behaviour.answer = answer
    asked = [len(behaviour.requests) async for _ in kube.pages(QWENSFTJOBS, "", metadata_only=True)]
    assert asked == [1, 2]
    assert {request.query["limit"] for request, _ in behaviour.requests} == {"100"}


# Recorded from Kubernetes 1.37: nodes with a label that none carries, metadata only.
NO_NODES = (
    '{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"4382"},'
    '"items":null}\n'
)


async def test_an_empty_list_of_metadata_is_null(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=NO_NODES, content_type="application/json")

    behaviour.answer = answer
    assert await kube.list(NODES, "", label_selector="nvidia.com/gpu.memory", metadata_only=True) == []


async def test_of_nodes_only_the_metadata_is_asked_for(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {}, "items": [{"metadata": {"name": "gpu-0"}}]})

    behaviour.answer = answer
    found = await kube.list(NODES, "", label_selector="nvidia.com/gpu.memory", metadata_only=True)
    assert found == [{"metadata": {"name": "gpu-0"}}]
    request, _ = behaviour.requests[0]
    assert (request.path, request.query["labelSelector"]) == ("/api/v1/nodes", "nvidia.com/gpu.memory")
    assert request.headers["Accept"] == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


async def test_a_delete_waits_for_pods_and_names_the_uid(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server
    await kube.delete(JOBS, "team", "demo-train-1", uid="42", propagation="Foreground")
    request, body = behaviour.requests[0]
    assert (request.method, request.path) == ("DELETE", "/apis/batch/v1/namespaces/team/jobs/demo-train-1")
    assert body == {"propagationPolicy": "Foreground", "preconditions": {"uid": "42"}}


async def test_a_status_is_a_merge_patch_on_the_subresource(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server
    await kube.merge(QWENSFTJOBS, "team", "demo", {"status": {"phase": None}}, subresource="status")
    request, body = behaviour.requests[0]
    assert request.path == "/apis/qwensft.io/v1alpha1/namespaces/team/qwensftjobs/demo/status"
    assert request.content_type == "application/merge-patch+json"
    assert body == {"status": {"phase": None}}


async def test_a_patch_with_a_condition_is_a_json_patch(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server
    operations = [{"op": "test", "path": "/a", "value": 1}, {"op": "add", "path": "/b", "value": 2}]
    await kube.patch(EVENTS, "team", "demo.1", operations)
    request, body = behaviour.requests[0]
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/team/events/demo.1")
    assert (request.content_type, body) == ("application/json-patch+json", operations)


async def test_metadata_alone_can_be_read(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server
    await kube.get_metadata(QWENSFTJOBS, "team", "demo")
    (request, _), *_ = behaviour.requests
    assert request.headers["Accept"] == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


async def test_what_the_server_answers_to_a_write_is_handed_on(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server
    written: list[tuple[str, str]] = []
    kube.on_write = lambda resource, answer: written.append((resource.plural, answer["metadata"]["resourceVersion"]))
    kinds = iter(["Job", "Job", "Job", "Job", "Status"])

    async def answer(_: web.Request) -> web.StreamResponse:
        version = str(len(behaviour.requests))
        return web.json_response({"kind": next(kinds), "metadata": {"resourceVersion": version}})

    behaviour.answer = answer
    body = {"metadata": {"name": "x"}}
    await kube.create(JOBS, "team", body)
    await kube.replace(JOBS, "team", body)
    await kube.merge(JOBS, "team", "x", {})
    for _ in range(2):  # the second time it is gone at once
        await kube.delete(JOBS, "team", "x", uid="1", propagation="Foreground")
    assert written == [("jobs", "1"), ("jobs", "2"), ("jobs", "3"), ("jobs", "4")]


async def test_every_request_carries_the_token_of_the_moment(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server
    for token in ("bearer first", "bearer second"):
        kube.configuration.api_key["BearerToken"] = token
        await kube.get(PODS, "team", "x")
        async with kube.session() as session, session.get(kube.configuration.host):
            pass
    sent = [request.headers["Authorization"] for request, _ in behaviour.requests]
    assert sent == ["bearer first", "bearer first", "bearer second", "bearer second"]


async def test_no_answer_in_time_is_transient(server: tuple[Server, Kube]) -> None:
    behaviour, kube = server

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        raise AssertionError

    behaviour.answer = answer
    impatient = Kube(kube.configuration, 0.5)
    with pytest.raises(TransientError, match="GET /api/v1/namespaces/team/pods/x: timed out"):
        await impatient.get(PODS, "team", "x")
    await impatient.close()


@pytest.mark.parametrize("code", [200, 502])
async def test_a_proxy_that_answers_in_html_is_transient(server: tuple[Server, Kube], code: int) -> None:
    behaviour, kube = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Bad gateway</html>", status=code)

    behaviour.answer = answer
    with pytest.raises(TransientError, match="Bad gateway"):
        await kube.get(PODS, "team", "x")


async def test_an_api_server_that_is_down_is_transient(unused_tcp_port: int) -> None:
    kube = Kube(Configuration(host=f"http://127.0.0.1:{unused_tcp_port}"), 1)
    with pytest.raises(TransientError):
        await kube.get(PODS, "team", "x")
    await kube.close()


@pytest.mark.parametrize("code", [200, 503])
async def test_the_time_is_that_of_the_last_answer(server: tuple[Server, Kube], code: int) -> None:
    behaviour, kube = server

    async def dated(_: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=code, headers={"Date": "Fri, 02 Jan 2099 12:00:00 GMT"})

    behaviour.answer = dated
    with contextlib.suppress(TransientError):
        await kube.get(JOBS, "team", "support-train-1")
    assert (kube.clock.now() - datetime(2099, 1, 2, 12, tzinfo=UTC)).total_seconds() == pytest.approx(0, abs=5)


@pytest.mark.parametrize(("exempt", "asked"), [("", True), ("cluster.example", False)], ids=["for it", "but for it"])
async def test_requests_and_watches_go_through_the_proxy_of_the_environment(
    server: tuple[Server, Kube], monkeypatch: pytest.MonkeyPatch, exempt: str, asked: bool
) -> None:
    behaviour, proxy = server
    monkeypatch.setenv("http_proxy", proxy.configuration.host)
    monkeypatch.setenv("no_proxy", exempt)
    kube = Kube(Configuration(host="http://cluster.example"), 5)
    expected = contextlib.nullcontext() if asked else pytest.raises((TransientError, aiohttp.ClientError))
    with expected:
        await kube.get(JOBS, "team", "demo")
    with expected:
        async with kube.session() as session, session.get("http://cluster.example/watched"):
            pass
    seen = [request.raw_path for request, _ in behaviour.requests]
    paths = ("/apis/batch/v1/namespaces/team/jobs/demo", "/watched")
    assert seen == ([f"http://cluster.example{path}" for path in paths] if asked else [])
    await kube.close()


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", PODS.path("team"), ("list", "pods")),
        ("GET", PODS.path(""), ("list", "pods")),
        ("GET", JOBS.path("namespaces", "pods"), ("get", "jobs")),
        ("GET", NODES.path("", "n"), ("get", "nodes")),
        ("PATCH", QWENSFTJOBS.path("team", "demo", "status"), ("patch", "qwensftjobs")),
        ("PUT", LEASES.path("team", "l"), ("update", "leases")),
        ("POST", JOBS.path("team"), ("create", "jobs")),
        ("DELETE", JOBS.path("team", "j"), ("delete", "jobs")),
    ],
)
def test_a_request_has_a_verb_and_a_resource(method: str, path: str, kind: tuple[str, str]) -> None:
    assert kind_of_request(method, path) == kind
