"""The house rules: who may import what, and how large and how careful the files are.

The table is the one of the design: a package may import itself and what stands beside it.
``errors``, ``records`` (plain data, no imports of their own) and ``references`` (the encoding of
small data sets) may be used everywhere in ``dicom_node``. Imports inside functions count as well:
laziness is for start-up time, not for going round the table.
"""

from __future__ import annotations

import ast
import graphlib
import io
import re
import subprocess
import sys
import tokenize

import pytest

from tests.source_tree import PACKAGES, ROOT, Source, code_lines, module_names, sources

# The files that make up one place of the table, where they are not one package.
PARTS = {
    "dicom_node.config_conditions": "dicom_node.config",
    "dicom_node.config_database": "dicom_node.config",
    "dicom_node.config_environment": "dicom_node.config",
    "dicom_node.config_models": "dicom_node.config",
    "dicom_node.config_peers": "dicom_node.config",
    "dicom_node.config_problems": "dicom_node.config",
    "dicom_node.config_rules": "dicom_node.config",
    "dicom_node.config_security": "dicom_node.config",
    "dicom_node.config_storage": "dicom_node.config",
    "dicom_node.config_web": "dicom_node.config",
    "dicom_node.config_yaml": "dicom_node.config",
    "dicom_node.durable": "dicom_node.spool",
    "dicom_node.event_lines": "dicom_node.events",
    "dicom_node.event_sinks": "dicom_node.events",
    "dicom_node.part": "dicom_node.spool",
    "dicom_node.__main__": "dicom_node.cli",
    "dicom_node.node_delivery": "dicom_node.node",
    "dicom_node.node_health": "dicom_node.node",
    "dicom_node.node_host_facts": "dicom_node.node",
    "dicom_node.node_hosts": "dicom_node.node",
    "dicom_node.node_intake": "dicom_node.node",
    "dicom_node.node_work": "dicom_node.node",
    "dicom_node.node_locks": "dicom_node.node",
    "dicom_node.node_gathering": "dicom_node.node",
    "dicom_node.node_headers": "dicom_node.node",
    "dicom_node.node_models": "dicom_node.node",
    "dicom_node.node_documents": "dicom_node.node",
    "dicom_node.node_observation": "dicom_node.node",
    "dicom_node.node_operations": "dicom_node.node",
    "dicom_node.node_outlook": "dicom_node.node",
    "dicom_node.node_pictures": "dicom_node.node",
    "dicom_node.node_replay": "dicom_node.node",
    "dicom_node.node_web": "dicom_node.node",
    "dicom_node.node_routing": "dicom_node.node",
    "dicom_node.node_rules": "dicom_node.node",
    "dicom_node.node_selftest": "dicom_node.node",
    "dicom_node.node_shift": "dicom_node.node",
    "dicom_node.node_spool": "dicom_node.node",
    "dicom_node.node_versions": "dicom_node.node",
}
EVERYWHERE = {
    "dicom_node", "dicom_node.backoff", "dicom_node.errors", "dicom_node.freed_memory",
    "dicom_node.input_roles", "dicom_node.records", "dicom_node.references",
}
ROOMS = {
    "dicom_node.config",
    "dicom_node.spool",
    "dicom_node.events",
    "dicom_node.tls_context",
    "dicom_node.ledger",
    "dicom_node.intake",
    "dicom_node.routing",
    "dicom_node.imaging",
    "dicom_node.pipeline",
    "dicom_node.results",
    "dicom_node.delivery",
    "dicom_node.operations",
    "ai_models",
    "sr_templates",
}
SHARED_STATE = {
    "dicom_node.config", "dicom_node.spool", "dicom_node.ledger", "dicom_node.events",
    "dicom_node.tls_context",
}
MAY_IMPORT: dict[str, set[str]] = {
    "dicom_node": set(),
    "dicom_node.errors": set(),
    "dicom_node.records": set(),
    "dicom_node.input_roles": {"dicom_node.records"},
    "dicom_node.backoff": set(),
    "dicom_node.freed_memory": set(),
    "dicom_node.references": {"dicom_node.errors"},
    "dicom_node.events": set(),
    "dicom_node.config": set(),
    "dicom_node.tls_context": {"dicom_node.config"},
    "dicom_node.spool": {"dicom_node.config"},
    "dicom_node.ledger": {"dicom_node.config"},
    "dicom_node.intake": SHARED_STATE,
    "dicom_node.routing": {"dicom_node.config"},
    "dicom_node.imaging": {"ai_models.types"},
    "dicom_node.pipeline": {
        "dicom_node.imaging",
        "dicom_node.results",
        "dicom_node.ledger",
        "dicom_node.spool",
        "dicom_node.events",
        "ai_models",
    },
    "dicom_node.results": {
        "sr_templates", "ai_models.types", "ai_models.array", "ai_models.drafting",
    },
    "dicom_node.delivery": SHARED_STATE,
    "dicom_node.operations": SHARED_STATE,
    "dicom_node.node": ROOMS,
    "dicom_node.cli": ROOMS | {"dicom_node.node"},
    "ai_models": set(),
    "sr_templates": {"ai_models.types"},
}
NUMERIC_ROOMS = ("ai_models.backends", "ai_models.networks", "ai_models.explain")
ONLY_IN = {
    "pynetdicom": ("dicom_node.intake", "dicom_node.delivery"),
    "sqlalchemy": ("dicom_node.ledger",),
    "dbos": ("dicom_node.ledger",),
    "sqlite3": ("dicom_node.ledger",),
    "psycopg": ("dicom_node.ledger",),
    "botocore": ("dicom_node.spool",),
    "boto3": (),
    "highdicom": ("dicom_node.results", "sr_templates"),
    **dict.fromkeys(
        (
            "torch", "torchvision", "monai", "onnxruntime", "onnx", "onnxscript", "transformers",
            "nnunetv2", "safetensors", "tritonclient", "httpx", "nibabel", "peft",
        ),
        (*NUMERIC_ROOMS, "ai_models.training", "ai_models.adapt", "ai_models.compress"),
    ),
}
WITHOUT_DICOM = ("ai_models.types", "ai_models.array", "ai_models.networks")
HEAVY = ("torch", "monai", "onnxruntime", "highdicom", "dbos", "sqlalchemy", "scipy", "pynetdicom")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
BANNED_WORDS = {"utils", "util", "helper", "helpers", "manager", "managers", "common", "misc"}
ALL_FOLDERS = (*PACKAGES, "tests", "bench")


def is_in(module: str, *places: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def place_of(module: str) -> str | None:
    """The row of the table that the module belongs to, ``None`` when it has none."""
    module = PARTS.get(module, module)
    if is_in(module, "ai_models", "sr_templates"):
        return module.split(".")[0]
    place = ".".join(module.split(".")[:2])
    return place if place in MAY_IMPORT else None


def forbidden_imports(source: Source) -> list[str]:
    place = place_of(source.name)
    if place is None:
        return [f"{source.where(1)} has no place in the table of the design"]
    allowed = {place, *MAY_IMPORT[place]}
    if is_in(place, "dicom_node") and place not in EVERYWHERE:
        allowed |= EVERYWHERE
    return [
        f"{source.where(found.line)} {place} may not import {found.module}"
        for found in source.imports()
        if is_in(found.module, *PACKAGES)
        and found.module not in allowed
        and not is_in(PARTS.get(found.module, found.module), *(allowed - {"dicom_node"}))
    ]


def test_every_package_imports_only_what_the_table_allows() -> None:
    problems = [line for source in sources(*PACKAGES) for line in forbidden_imports(source)]
    assert problems == []


def test_no_import_cycle_at_load_time() -> None:
    graph = {}
    for source in sources(*PACKAGES):
        own_packages = {source.name.rsplit(".", n)[0] for n in range(source.name.count(".") + 1)}
        loaded = {found.module for found in source.imports() if found.at_load}
        graph[source.name] = (loaded & module_names()) - own_packages
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_known_only_in_its_rooms(library: str) -> None:
    problems = [
        f"{source.where(found.line)} imports {found.module}"
        for source in sources(*PACKAGES)
        if not is_in(source.name, *ONLY_IN[library])
        for found in source.imports()
        if is_in(found.module, library)
    ]
    assert problems == []


def test_array_code_of_the_models_knows_no_dicom() -> None:
    problems = [
        f"{source.where(found.line)} imports {found.module}"
        for source in sources("ai_models")
        if is_in(source.name, *WITHOUT_DICOM)
        for found in source.imports()
        if is_in(found.module, "pydicom", "highdicom", "pynetdicom")
    ]
    assert problems == []


def test_no_file_is_longer_than_400_lines() -> None:
    problems = [
        f"{source.where(len(source.lines))} lines"
        for source in sources(*ALL_FOLDERS)
        if len(source.lines) > LONGEST_FILE
    ]
    assert problems == []


def test_no_function_is_longer_than_60_lines_without_its_docstring() -> None:
    problems = [
        f"{source.where(function.lineno)} {function.name}: {code_lines(function)} lines"
        for source in sources(*ALL_FOLDERS)
        for function in source.functions()
        if code_lines(function) > LONGEST_FUNCTION
    ]
    assert problems == []


def test_file_names_say_what_is_in_them() -> None:
    problems = [
        source.where(1)
        for source in sources(*ALL_FOLDERS)
        if BANNED_WORDS & set(re.split(r"[._]", source.name.lower()))
    ]
    assert problems == []


def test_every_module_has_a_docstring() -> None:
    problems = [
        source.where(1)
        for source in sources(*PACKAGES)
        if source.text.strip() and not ast.get_docstring(source.tree)
    ]
    assert problems == []


def comments(source: Source) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source.text).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {
        node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in types
    }
    return bool(names & {"Exception", "BaseException"})


def gives_a_reason(comment: str) -> bool:
    words = re.sub(r"#|noqa(: *[A-Z0-9, ]+)?", " ", comment).replace("-", " ").split()
    return len(words) >= 3


def test_broad_except_gives_its_reason_beside_it() -> None:
    problems = []
    for source in sources(*PACKAGES):
        noted = comments(source)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler) and is_broad(node):
                near = [noted.get(line, "") for line in range(node.lineno - 1, node.lineno + 2)]
                if not any(gives_a_reason(comment) for comment in near):
                    problems.append(source.where(node.lineno))
    assert problems == []


def calls(source: Source) -> list[tuple[int, str, ast.Call]]:
    found = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    return [(node.lineno, ast.unparse(node.func), node) for node in found]


def keyword_value(call: ast.Call, name: str) -> object:
    values = [word.value for word in call.keywords if word.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def test_nothing_is_loaded_that_can_run_code() -> None:
    problems = []
    for source in sources(*PACKAGES):
        problems += [
            f"{source.where(found.line)} imports {found.module}"
            for found in source.imports()
            if is_in(found.module, "pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
        ]
        for line, name, call in calls(source):
            unsafe = (
                name in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
                or (name == "torch.load" and keyword_value(call, "weights_only") is not True)
                or keyword_value(call, "allow_pickle") is True
                or keyword_value(call, "trust_remote_code") is True
                or keyword_value(call, "shell") is True
            )
            problems += [f"{source.where(line)} calls {name}"] if unsafe else []
    assert problems == []


def main_block(source: Source) -> range:
    for node in source.tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return range(0)


def test_only_the_command_line_exits() -> None:
    problems = [
        f"{source.where(line)} calls {name}"
        for source in sources(*PACKAGES)
        if not is_in(source.name, "dicom_node.cli", "dicom_node.__main__")
        for line, name, _ in calls(source)
        if name in ("sys.exit", "exit", "quit", "SystemExit") and line not in main_block(source)
    ]
    assert problems == []


def test_no_unfinished_business_in_comments() -> None:
    problems = [
        source.where(line)
        for source in sources(*PACKAGES)
        for line, comment in comments(source).items()
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment)
    ]
    assert problems == []


@pytest.mark.parametrize("statement", ["import dicom_node.cli.main", "HELP"])
def test_command_line_starts_without_heavy_libraries(statement: str) -> None:
    if not (ROOT / "dicom_node/cli/main.py").is_file():
        pytest.skip("the command line is not there yet")
    if statement == "HELP":
        statement = (
            "import contextlib, io; from dicom_node.cli.main import main\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
            "    main()"
        )
    code = (
        f"import sys; sys.argv = ['dicom-node', '--help']\n{statement}\n"
        f"print(sorted(set({(*HEAVY, 'pydicom')!r}) & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.stderr == ""
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["status", "explain"])
def test_quick_command_has_no_heavy_library_at_module_level(command: str) -> None:
    name = f"dicom_node.cli.{command}"
    if name not in module_names():
        pytest.skip(f"{name} is not there yet")
    code = f"import sys, {name}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
