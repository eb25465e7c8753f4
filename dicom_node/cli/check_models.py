"""What `check` says of models: weights, licence, self-test; and of the devices that run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import (
    find_card,
    model_problems,
    model_stages,
    open_catalog,
)
from dicom_node.errors import ConfigurationError, NodeError, UnknownName
from dicom_node.operations.doctor import Finding, failed, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ai_models.card import Card
    from dicom_node.config import Config
    from dicom_node.operations.selftest import SelftestBook
    from dicom_node.pipeline.inference import InferencePool

TODO = (
    "dicom-node models verify MODEL says more; models.directories, rules and impression in the "
    "settings"
)
GPU_TODO = "nvidia-smi on the host; restart it after a driver update"
_DRIVER_WITHIN_S, _WORKER_WITHIN_S = 20.0, 120.0
_NUMBERS_TOLD = 5


def models(config: Config) -> str:
    """How many are known; raises what is wrong with those that the rules name."""
    from ai_models.types import ModelError
    from dicom_node.node_models import check_model, site_of, wrong_writers

    catalog, site = open_catalog(config), site_of(config)
    known_before = model_stages(config)
    outcomes: dict[str, tuple[str, str]] = {}
    wrong: list[tuple[str, str]] = []

    def outcome_of(model_id: str, *, whole: bool) -> tuple[str, str]:
        """Reason and message, both empty where all is well; a name that nothing knows is wrong."""
        try:
            card = catalog.get(model_id)
            if whole:
                check_model(card, site)
        except ModelError as error:
            is_known = catalog.knows(model_id) or model_id in known_before
            return error.reason if is_known else UnknownName.reason, str(error)
        return "", ""

    for rule in config.rules:
        if rule.model not in outcomes:
            outcomes[rule.model] = outcome_of(rule.model, whole=True)
        reason, message = outcomes[rule.model]
        wrong += [(reason, f"rule {rule.name!r}: {message}")] if reason else []
    for name in config.jobs.per_model:
        reason, message = outcome_of(name, whole=False)
        wrong += [(reason, f"jobs.per_model.{name}: {message}")] if reason else []
    wrong += [(problem.reason, f"{path}: {problem}") for path, problem in wrong_writers(config)]
    if wrong:
        (reason, text), *others = wrong
        text = "; ".join([text, *(f"{code}: {message}" for code, message in others)])
        raise ConfigurationError(text, reason=reason)
    ruled = len({rule.model for rule in config.rules})
    return f"{len(catalog.cards())} known; {ruled} in rules, with weights as their cards say"


def bad_folders(config: Config) -> list[Finding]:
    """Model folders that are not used as they are: somebody put them there to be used."""
    try:
        problems = model_problems(config, open_catalog(config))
    except NodeError:
        # What is wrong is told by the checks of ledger and models.
        return []
    todo = "mend the card, or take the folder away: `dicom-node models verify`"
    return [failed(f"folder of {one.model_id or 'models'}", one.message, todo) for one in problems]


def devices(config: Config) -> list[Finding]:
    """What the models run on: the processor, or GPUs with a driver that torch can use."""
    name, wanted = "GPU", config.models.devices
    cuda = [] if isinstance(wanted, str) else [one for one in wanted if one != "cpu"]
    has_one = any(Path("/dev").glob("nvidia[0-9]*"))
    if not cuda and (wanted != "auto" or not has_one):
        why = "as models.devices says" if wanted != "auto" else "no NVIDIA GPU is here"
        return [ok(name, f"none: {why}; models run on {os.cpu_count()} processor cores")]
    seen = _seen_by_worker()
    return [_driver(), *_usable(name, cuda, seen)]


def _driver() -> Finding:
    name = "GPU driver"
    program = shutil.which("nvidia-smi")
    if program is None:
        return warning(name, "nvidia-smi is not here, so that nothing is known of the driver",
                       "install the driver's utilities; in a container give it the GPU")
    query = "--query-gpu=name,driver_version,memory.used,memory.total"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader"],
            capture_output=True, text=True, timeout=_DRIVER_WITHIN_S, check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return failed(name, "nvidia-smi gives no answer: the driver hangs", GPU_TODO)
    said = (done.stdout or done.stderr).strip().splitlines() or ["nothing"]
    if done.returncode != 0:
        return failed(name, f"nvidia-smi says: {said[0][:200]}", GPU_TODO)
    return ok(name, "; ".join(line.strip() for line in said))


def _seen_by_worker() -> dict[str, Any]:
    """What a process as those that run models sees; this one never loads torch."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dicom_node.pipeline.worker", "--describe-devices"],
            capture_output=True, timeout=_WORKER_WITHIN_S, check=True,
        )
        found = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"a worker process cannot tell: {type(error).__name__}", reason="worker.lost"
        ) from error
    return dict(found)


def _usable(name: str, wanted: list[str], seen: dict[str, Any]) -> list[Finding]:
    found, count = seen["devices"], len(seen["devices"])
    libraries = f"torch {seen['torch'] or 'missing'} (CUDA {seen['cuda'] or 'none'})"
    if not found:
        return [failed(name, f"{libraries} sees no GPU",
                       "a torch that was built for CUDA, and a driver as new as its CUDA; or "
                       "models.devices: [cpu]")]
    numbered = [one for one in wanted if one.startswith("cuda:")]
    missing = [one for one in numbered if int(one.partition(":")[2]) >= count]
    if missing:
        return [failed(name, f"models.devices names {', '.join(missing)}, and {libraries} sees "
                       f"{count}", "models.devices: auto, or those that `nvidia-smi -L` lists")]
    memory = "; ".join(
        f"{one['name']}, {one['free_mib']} of {one['total_mib']} MiB free" for one in found
    )
    text = f"{memory}; {libraries}, onnxruntime {seen['onnxruntime'] or 'missing'}"
    if "CUDAExecutionProvider" not in seen["providers"]:
        return [warning(name, f"{text}, which runs ONNX models on the processor only",
                        "pip install 'dicom-node[gpu]' in the place of [cpu], never both")]
    return [ok(name, text)]


def self_test(config: Config) -> list[Finding]:
    """Each model of the rules on its phantom, against what it gave before.

    A first answer is kept only where the data are this user's: another one's file would be in the
    way of the node.
    """
    from dicom_node.node_selftest import models_to_test
    from dicom_node.operations.selftest import SelftestBook

    book = SelftestBook(config.node.data_dir / "selftest")
    found = []
    for model_id in models_to_test(config):
        try:
            card = find_card(open_catalog(config), model_id)
        except NodeError:
            # Told by the check of models.
            continue
        found.append(_tested(config, card, book))
    return found


def _tested(config: Config, card: Card, book: SelftestBook) -> Finding:
    from dicom_node.node_selftest import measure

    name = f"self-test of {card.id}"
    todo = (
        "compare with `dicom-node models verify`; was a driver or library changed? if the new "
        f"answer is right, remove {config.node.data_dir / 'selftest'}/{card.id}.json"
    )
    with tempfile.TemporaryDirectory(prefix="dicom-node-check-") as scratch:
        pool = _pool(config, Path(scratch))
        try:
            deadline_s = min(config.models.deadline_s, card.runtime.deadline_s)
            result = book.judge(measure(card, pool, deadline_s), keep=_is_ours(config))
        except NodeError as error:
            return failed(name, f"{error.reason}: {error}", todo)
        finally:
            pool.close()
    if result.problem:
        return failed(name, result.problem, todo)
    numbers = _few_numbers(result.values or {})
    if result.is_first:
        kept = f"not kept: {config.node.data_dir} is another user's"
        if _is_ours(config):
            kept = "kept as the measure"
        elif not config.node.data_dir.is_dir():
            kept = "not kept: the first start makes the data directory"
        return ok(name, f"{numbers}; the first answer on this device, {kept}")
    return ok(name, f"{numbers}, as before")


def _few_numbers(values: Mapping[str, float]) -> str:
    """The first of them: in a phantom a model may find many things, each with its volume."""
    told = [f"{key} {value:.4g}" for key, value in list(values.items())[:_NUMBERS_TOLD]]
    more = len(values) - len(told)
    return ", ".join([*told, *([f"and {more} more"] if more else [])])


def _pool(config: Config, scratch: Path) -> InferencePool:
    from dicom_node.events import Events
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.inference import InferencePool, resolve_devices

    devices = resolve_devices(config.models.devices)[:1]
    return InferencePool(devices, site_of(config), scratch, Events())


def _is_ours(config: Config) -> bool:
    folder = config.node.data_dir
    return folder.is_dir() and folder.stat().st_uid == os.geteuid()
