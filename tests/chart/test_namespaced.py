"""A release that serves some namespaces makes no object of the cluster, and another one may stand beside it."""

from .conftest import OF_THE_CLUSTER, identities, render


def namespaced(release: str, *namespaces: str, system: str = "system") -> list[tuple[str, str | None, str]]:
    served = f"watchNamespaces={{{','.join(namespaces)}}}"
    return identities(render("--set", served, "--set", "crds.enabled=false", release=release, namespace=system))


def test_nothing_of_it_belongs_to_the_cluster() -> None:
    made = namespaced("one", "team-a", "team-b")
    assert made
    assert not {kind for kind, _, _ in made} & OF_THE_CLUSTER
    assert {namespace for _, namespace, _ in made} == {"system", "team-a", "team-b"}


def test_the_definition_is_the_only_object_of_the_cluster_where_it_is_installed_with_it() -> None:
    made = identities(render("--set", "watchNamespaces={team-a}"))
    assert [name for kind, _, name in made if kind in OF_THE_CLUSTER] == ["qwensftjobs.qwensft.io"]


def test_two_of_them_have_no_object_in_common() -> None:
    first, second = namespaced("one", "team-a"), namespaced("two", "team-b")
    assert not set(first) & set(second)


def test_two_of_one_name_in_two_namespaces_have_no_object_in_common() -> None:
    first = namespaced("qwen-sft-operator", "team-a", system="system-a")
    second = namespaced("qwen-sft-operator", "team-b", system="system-b")
    assert not set(first) & set(second)
