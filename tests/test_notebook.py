"""The worked notebook runs from top to bottom, and stores nothing of what it printed."""

from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_no_outputs_are_stored() -> None:
    nbformat.validate(read())
    for cell in read().cells:
        assert not cell.get("outputs"), f"clear the outputs of {cell.id}"
        assert cell.get("execution_count") is None, f"clear the outputs of {cell.id}"


@pytest.mark.packaged
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    for name, value in (("OMP_NUM_THREADS", "1"), ("HF_HUB_OFFLINE", "1"), ("IPYTHONDIR", str(tmp_path / "ipython"))):
        monkeypatch.setenv(name, value)
    made = NotebookClient(
        read(), timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [output.get("data", {}) for cell in made.cells for output in cell.get("outputs", ())]
    assert sum("<table" in data.get("text/html", "") for data in shown) == 2, "the audit's table and the study's"
    assert sum(data.get("image/svg+xml", "").startswith("<svg") for data in shown) == 2, "a chart of each"
    printed = "".join(output.get("text", "") for cell in made.cells for output in cell.get("outputs", ()))
    assert any(verdict in printed for verdict in ("worse", "cannot tell yet", "not testable", "equivalent", "better"))
    assert "<html" in (tmp_path / "report.html").read_text()
