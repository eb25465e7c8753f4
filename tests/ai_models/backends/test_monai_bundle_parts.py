from __future__ import annotations

import importlib.util
import json
import marshal
import socket
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.backends.monai_bundle_parts import network_of
from ai_models.trust import Site
from tests.ai_models.backends.bundle_runs import (
    bright,
    predict,
    refused,
)
from tests.ai_models.backends.folder_models import (
    bundle_weights,
    write_card,
    write_monai_bundle,
)


def test_an_untrusted_configuration_is_never_evaluated(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = {"_target_": "os.mkdir", "path": str(trace)}
    folder = write_monai_bundle(tmp_path / "model", configuration={"network_def": program})
    error = refused(folder, Site())
    assert error.reason == "model.config_exec" and "trusted_folders" in str(error)
    assert not trace.exists()


def test_a_configuration_that_is_plain_data_is_refused_as_well(tmp_path: Path) -> None:
    # A `_target_` calls any function there is: without a `$` it is a program all the same.
    folder = write_monai_bundle(tmp_path, trust__config_exec=False)
    assert refused(folder).reason == "card.invalid"


def test_a_changed_configuration_is_refused_before_it_is_evaluated(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = write_monai_bundle(tmp_path / "model")
    path = folder / "bundle" / "configs" / "inference.json"
    values = json.loads(path.read_text())
    values["network_def"] = f"$__import__('os').mkdir('{trace}')"
    path.write_text(json.dumps(values))
    assert refused(folder).reason == "model.hash_mismatch"
    assert not trace.exists()


@pytest.mark.parametrize("name", ["configs/inference.json", "models/model.pt"])
def test_a_bundle_that_lacks_a_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = write_monai_bundle(tmp_path)
    (folder / "bundle" / name).unlink()
    error = refused(folder)
    assert error.reason == "model.weights_missing" and name in str(error)


def test_weights_outside_of_the_bundle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "else.pt").write_bytes(b"")
    folder = write_monai_bundle(
        tmp_path / "model", runtime__bundle={"weights": "../../else.pt"},
    )
    assert refused(folder).reason == "card.invalid"


@pytest.mark.parametrize(
    "nesting", [("model",), ("state_dict",), ("network",), ("model", "state_dict")]
)
def test_weights_are_found_below_the_names_in_use(tmp_path: Path, nesting: tuple[str, ...]) -> None:
    weights: Any = bundle_weights(1)
    for name in reversed(nesting):
        weights = {name: weights, "epoch": np.float64(3)}
    folder = write_monai_bundle(tmp_path, weights=weights)
    assert np.array_equal(predict(folder).label_map, bright())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    error = refused(write_monai_bundle(tmp_path, weights=bundle_weights(2)))
    assert error.reason == "model.load_failed" and "does not fit" in str(error)


def test_weights_that_are_a_program_are_refused_even_in_a_trusted_folder(tmp_path: Path) -> None:
    error = refused(write_monai_bundle(tmp_path, weights={"model": Path("/")}))
    assert error.reason == "model.pickle"


def test_a_bundle_without_preprocessing_is_refused(tmp_path: Path) -> None:
    folder = write_monai_bundle(tmp_path, runtime__bundle={"preprocessing": "validate"})
    error = refused(folder)
    assert error.reason == "model.bundle_incomplete" and "validate" in str(error)


def test_preprocessing_of_bare_arrays_is_refused(tmp_path: Path) -> None:
    chain = {"preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImage"}, {"_target_": "ScaleIntensity"},
    ]}}
    assert refused(write_monai_bundle(tmp_path, configuration=chain)).reason == (
        "model.bundle_incomplete"
    )


def test_a_bundle_of_several_inputs_is_refused_by_their_names(tmp_path: Path) -> None:
    chain = {"preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": ["artery", "vein"]},
    ]}}
    error = refused(write_monai_bundle(tmp_path, configuration=chain))
    assert error.reason == "model.wrong_input" and "artery, vein" in str(error)


def test_intensities_are_not_scaled_twice(tmp_path: Path) -> None:
    error = refused(write_monai_bundle(tmp_path, input__normalisation="zscore"))
    assert error.reason == "model.wrong_input" and "ScaleIntensityRanged" in str(error)


def test_a_network_that_downloads_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/w.pt"
        target = {"network_def": f"$torch.hub.load_state_dict_from_url('{url}', '{tmp_path}')"}
        error = refused(write_monai_bundle(tmp_path / "model", configuration=target))
    assert error.reason == "model.network_needed"


def test_pretrained_weights_are_not_asked_for_since_all_come_from_the_bundle(
    tmp_path: Path,
) -> None:
    (tmp_path / "asked").mkdir()
    script = (
        "import torch\n"
        "def Net(pretrained):\n"
        "    assert pretrained is False\n"
        "    return torch.nn.Conv3d(1, 2, 1)\n"
    )
    folder = write_monai_bundle(
        tmp_path, trust__remote_code=True,
        configuration={"network_def": {"_target_": "scripts.net.Net", "pretrained": True}},
    )
    (folder / "bundle" / "scripts").mkdir()
    (folder / "bundle" / "scripts" / "net.py").write_text(script)
    write_card(folder, "bundle", runtime__backend="monai_bundle", input__axes=["R", "A", "S"],
               trust__config_exec=True, trust__remote_code=True)
    assert np.array_equal(predict(folder).label_map, bright())


def test_compiled_python_that_no_digest_covers_is_not_run(tmp_path: Path) -> None:
    folder = write_monai_bundle(
        tmp_path / "model",
        configuration={"network_def": {"_target_": "scripts.net.Net"}},
    )
    trace, source = tmp_path / "trace", folder / "bundle" / "scripts" / "net.py"
    source.parent.mkdir()
    source.write_text(
        "import torch\n\n\nclass Net(torch.nn.Conv3d):\n"
        "    def __init__(self):\n        super().__init__(1, 2, 1)\n"
    )
    told = source.stat()
    evil = compile(f"import os; os.mkdir({str(trace)!r})\n{source.read_text()}", "net.py", "exec")
    compiled = Path(importlib.util.cache_from_source(str(source)))
    compiled.parent.mkdir()
    # As Python itself writes it: magic number, no flags, time and size of the source.
    compiled.write_bytes(
        importlib.util.MAGIC_NUMBER
        + struct.pack("<III", 0, int(told.st_mtime), told.st_size) + marshal.dumps(evil)
    )
    write_card(folder, "bundle", runtime__backend="monai_bundle", input__axes=["R", "A", "S"],
               trust__config_exec=True, trust__remote_code=True)
    assert np.array_equal(predict(folder).label_map, bright())
    assert not trace.exists()


def test_python_beside_the_configuration_needs_its_own_switch(tmp_path: Path) -> None:
    folder = write_monai_bundle(
        tmp_path, configuration={"network_def": {"_target_": "scripts.net.Net"}},
    )
    error = refused(folder)
    assert error.reason == "model.remote_code" and "trust.remote_code" in str(error)


def test_a_network_that_monai_no_longer_has_is_said_to_fail(tmp_path: Path) -> None:
    network = {"network_def": {"_target_": "UNETR", "in_channels": 1, "out_channels": 2,
                               "img_size": 96, "pos_embed": "conv"}}
    error = refused(write_monai_bundle(tmp_path, configuration=network))
    assert error.reason == "model.load_failed" and "pos_embed" in str(error)


def test_an_argument_that_monai_dropped_without_effect_is_dropped(tmp_path: Path) -> None:
    network = {"_target_": "SwinUNETR", "img_size": 32, "in_channels": 1, "out_channels": 2,
               "feature_size": 12}
    folder = write_monai_bundle(tmp_path, configuration={"network_def": network})
    assert network_of(folder / "bundle", "configs/inference.json") is not None
