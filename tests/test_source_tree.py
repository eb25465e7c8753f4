"""The architecture tests see what they claim to see."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests import test_architecture as architecture
from tests.source_tree import ROOT, Source, code_lines


def source(text: str, name: str = "dicom_node.routing.rules") -> Source:
    text = textwrap.dedent(text)
    return Source(name, ROOT / (name.replace(".", "/") + ".py"), text, ast.parse(text))


def test_imports_are_found_in_functions_in_try_and_under_type_checking() -> None:
    found = source(
        """
        import json
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from dicom_node.config import Rule
        else:
            import zlib
        try:
            import torch
        except ImportError:
            import numpy
        def f():
            with open("x"):
                from dicom_node import spool
        """
    ).imports()
    assert [(imported.module, imported.at_load) for imported in found] == [
        ("json", True),
        ("typing", True),
        ("dicom_node.config", False),
        ("zlib", True),
        ("torch", True),
        ("numpy", True),
        ("dicom_node.spool", False),
    ]


@pytest.mark.parametrize(
    ("module", "statement", "allowed"),
    [
        ("dicom_node.routing.rules", "from dicom_node.config import Rule", True),
        ("dicom_node.routing.rules", "from dicom_node import __version__, errors", True),
        ("dicom_node.routing.rules", "from . import rules", True),
        ("dicom_node.routing.rules", "from dicom_node.config_yaml import parse", True),
        ("dicom_node.routing.rules", "import dicom_node.spool", False),
        ("dicom_node.routing.rules", "from ..ledger import Ledger", False),
        ("dicom_node.errors", "from dicom_node.records import Job", False),
        ("dicom_node.imaging.volume", "from ai_models.types import Volume", True),
        ("dicom_node.imaging.volume", "from ai_models import card", False),
        ("ai_models.card", "from dicom_node.errors import NodeError", False),
        ("ai_models.card", "from dicom_node import __version__", False),
        ("sr_templates.codes", "import ai_models.types", True),
        ("sr_templates.codes", "import ai_models.catalog", False),
        ("dicom_node.cli.status", "from dicom_node.ledger import Ledger", True),
        ("dicom_node.node", "import dicom_node.cli.main", False),
        ("dicom_node.surprise", "import json", False),
    ],
)
def test_import_table_is_held(module: str, statement: str, *, allowed: bool) -> None:
    problems = architecture.forbidden_imports(source(statement, module))
    assert (problems == []) is allowed


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("# noqa: BLE001", False),
        ("# noqa: BLE001 - the worker's last line of defence", True),
        ("# pragma", False),
        ("", False),
    ],
)
def test_bare_noqa_is_no_reason(comment: str, *, reason: bool) -> None:
    assert architecture.gives_a_reason(comment) is reason


def test_docstring_lines_are_no_code_lines() -> None:
    text = 'def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n\n    return a\n'
    (function,) = source(text).functions()
    assert code_lines(function) == 4
