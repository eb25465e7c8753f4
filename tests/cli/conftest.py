"""A site and its command line; logging and warnings are put back as they were."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from tests.cli.running import Site


@pytest.fixture
def site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Site:
    """Settings without data."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    return Site(tmp_path, capsys)


@pytest.fixture
def filled(site: Site) -> Site:
    """Settings and a ledger with one study."""
    site.fill()
    return site
