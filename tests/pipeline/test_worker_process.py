"""What a worker is started with."""

from __future__ import annotations

import pytest

from dicom_node.pipeline.worker_process import _worker_environment


@pytest.mark.parametrize(
    ("name", "quiet"), [("OMP_WAIT_POLICY", "PASSIVE"), ("OPENBLAS_NUM_THREADS", "1")]
)
def test_threads_of_a_worker_take_no_core_while_they_wait_unless_told_to(
    name: str, quiet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    assert _worker_environment()[name] == quiet
    monkeypatch.setenv(name, "other")
    assert _worker_environment()[name] == "other"
