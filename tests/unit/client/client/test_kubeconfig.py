"""Which context, user and namespace are meant: as kubectl reads its files, one or several."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.client.api_server import Server, kubeconfig

from qwensft import Client
from qwensft.client.errors import ConfigurationError, NotLoggedInError

Document = dict[str, Any]


def of(name: str, **more: Any) -> Document:
    """A kubeconfig whose one context, cluster, user and namespace are called alike."""
    return {
        "clusters": [{"name": name, "cluster": {"server": f"http://{name}.example"}}],
        "users": [{"name": name, "user": {"token": f"{name}-token"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"{name}-team"}}],
        **more,
    }


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, *documents: Document | str) -> None:
    """Have KUBECONFIG name these files, in this order, and one that does not exist."""
    paths = [folder / f"{number}.yaml" for number in range(len(documents))]
    for path, document in zip(paths, documents, strict=True):
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, [*paths, folder / "missing.yaml"])))


def host_of(client: Client) -> str:
    return str(client.connection._login.access.configuration.host)


def test_a_context_is_named_where_no_one_is_current(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, of("one"))
    client = Client(context="one")
    assert (client.namespace, host_of(client)) == ("one-team", "http://one.example")


def test_without_any_the_contexts_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, of("one"), of("two"))
    with pytest.raises(ConfigurationError, match=r"no current context: name one, --context .* there are one, two"):
        Client()
    with pytest.raises(ConfigurationError, match="no context three; there are one, two"):
        Client(context="three")


@pytest.mark.parametrize("first", [of("one", **{"current-context": "one"}), "", of("one", **{"current-context": ""})])
def test_of_several_files_the_first_with_a_current_context_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: Document | str
) -> None:
    use(
        monkeypatch,
        tmp_path,
        first,
        of("two", **{"current-context": "two"}),
        of("three", **{"current-context": "three"}),
    )
    current = "one" if isinstance(first, dict) and first["current-context"] else "two"
    assert Client().namespace == f"{current}-team"


def test_of_two_contexts_of_a_name_the_first_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = of("one", **{"current-context": "one"})
    other["contexts"][0]["context"]["namespace"] = "other"
    use(monkeypatch, tmp_path, of("one"), other)
    assert Client().namespace == "one-team"


def test_kubeconfig_is_read_when_a_client_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one", "two"):
        use(monkeypatch, tmp_path, of(name, **{"current-context": name}))
        assert Client().namespace == f"{name}-team"


@pytest.mark.parametrize("text", ["a: [", "- 1", "contexts: 1", "contexts: [{context: {}}]", "\udcff"])
def test_a_file_of_another_form_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    use(monkeypatch, tmp_path, "")
    (tmp_path / "0.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match=r"0\.yaml is no kubeconfig"):
        Client()


def test_no_file_at_all_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path)
    with pytest.raises(ConfigurationError, match=r"there is no kubeconfig .*missing\.yaml"):
        Client()
    with pytest.raises(ConfigurationError, match="there is no kubeconfig nowhere"):
        Client(kubeconfig="nowhere")


def test_who_asks_as_someone_else_says_so_in_every_request(server: Server, tmp_path: Path) -> None:
    user: Document = {"token": "t", "as": "bea", "as-uid": "7", "as-groups": ["dev", "ops"]}
    user["as-user-extra"] = {"Example.com/Scope": ["a", "b"]}
    path = tmp_path / "as"
    path.write_text(kubeconfig(server.url, user=user))
    client = Client(kubeconfig=path)
    client.list_jobs()
    client.connection.exec("p", "files", ["true"], stdin=False).shutdown()
    assert len(server.asked) == 2
    for request in server.asked:
        assert request.header("Authorization") == ["Bearer t"]
        assert request.header("Impersonate-User") == ["bea"]
        assert request.header("Impersonate-Uid") == ["7"]
        assert request.header("Impersonate-Group") == ["dev", "ops"]
        assert request.header("Impersonate-Extra-example.com%2Fscope") == ["a", "b"]


def test_a_login_plugin_that_fails_is_named(server: Server, tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", "exit(1)"]}
    path = tmp_path / "plugin"
    path.write_text(kubeconfig(server.url, user={"exec": plugin}))
    with pytest.raises(NotLoggedInError, match="by which context here logs in, gives no credentials: run it by itself"):
        Client(kubeconfig=path)
    assert not server.asked


def test_what_a_kubeconfig_holds_is_not_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document = of("one", **{"current-context": "one"})
    login = {"name": "oidc", "config": {"refresh-token": "secret", "client-secret": "secret"}}
    document["users"] = [{"name": "one", "user": {"auth-provider": login}}]
    use(monkeypatch, tmp_path, document)
    with pytest.raises(ConfigurationError, match="Expected key id-token") as refused:
        Client()
    assert "secret" not in str(refused.value)
    (tmp_path / "0.yaml").write_text("users: [{name: a, user: {token: secret}\ncontexts: }")
    with pytest.raises(ConfigurationError, match="is no kubeconfig") as refused:
        Client()
    assert "secret" not in str(refused.value)
