"""What every test needs before anything is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from tests.databases import (  # noqa: F401 - fixtures
    _emptied,
    database_url,
    mark_long,
    node_database,
    postgres,
    postgresql_url,
)

if TYPE_CHECKING:
    from tests.tls_files import Site

# Read when torch is imported. Several tests share the cores: threads that wait by spinning for one
# that has none take what it waits for, and a network of milliseconds takes a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# As ai_models does: some tests load ONNX Runtime before it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class _OperatorsBeforeTorchvision(MetaPathFinder):
    """Declares two operators that torchvision built for CUDA misses beside a torch for CPUs.

    The one wheel of torchvision that package indices have is built for CUDA, and its import fails
    without them. They are declared and not implemented: no test calls them. torch itself is
    imported only where torchvision is.
    """

    has_looked = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if fullname == "torchvision" and not self.has_looked:
            self.has_looked = True
            from ai_models.training.torchvision_operators import declare_missing_operators

            declare_missing_operators()


def pytest_configure() -> None:
    """Before any module of tests is collected."""
    finder: MetaPathFinder = _OperatorsBeforeTorchvision()
    sys.meta_path.insert(0, finder)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The certificates of a hospital, made once."""
    from tests.tls_files import site

    return site(tmp_path_factory.mktemp("certificates"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before pytest chooses by ``-m``."""
    mark_long(items)
