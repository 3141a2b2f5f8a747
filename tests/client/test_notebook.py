"""A notebook that trains, on the real cluster, run as Jupyter would run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwensft import Client

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel: make test-client has them")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.mark.timeout(1800)
def test_the_example_notebook_trains_a_model(client: Client, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("QWENSFT_EXAMPLE_NAMESPACE", client.namespace)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output["data"]["text/plain"] for output in outputs if output["output_type"] == "display_data"]
    # One line that was updated in place, not a line for every change.
    assert sum("Succeeded" in text for text in shown) == 1
    assert not any("Training" in text for text in shown)
    assert client.get_job("notebook").status.phase == "Succeeded"
    client.delete_job("notebook")
