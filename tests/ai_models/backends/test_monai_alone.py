"""A worker starts without MONAI, and with no more of its company than a network needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ai_models.backends.monai_alone import names_transchex
from tests.ai_models.backends.folder_models import write_monai_bundle
from tests.ai_models.tiny_models import threshold_onnx, write_model

_SCRIPT = """
import sys
from pathlib import Path
from ai_models.card import load_card
from ai_models.predictor import Predictor
predictor = Predictor(load_card(Path(sys.argv[1])))
predictor.load()
predictor.warm_up()
assert "monai" not in sys.modules, "imported for nothing"
from ai_models.backends.architectures import build
build("monai.VNet", {})
assert "monai" in sys.modules and "transformers" not in sys.modules, "taken along"
from monai.networks.nets import transchex
assert not transchex.transformers[1]
from ai_models.backends.monai_alone import complete_monai
complete_monai()
import transformers
assert transchex.BertConfig is transformers.BertConfig
"""


def test_a_network_is_loaded_without_transformers_and_leaves_it_to_be_imported(
    tmp_path: Path,
) -> None:
    folder = write_model(tmp_path / "model", threshold_onnx(0.5))

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(folder)],
        capture_output=True, text=True, check=False,
    )

    assert done.returncode == 0, done.stderr


def test_a_bundle_that_names_the_one_network_with_transformers_is_known(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    configuration = tmp_path / "configs" / "inference.json"
    configuration.write_text('{"network_def": {"_target_": "UNet"}}')
    assert not names_transchex(tmp_path)
    configuration.write_text('{"network_def": {"_target_": "Transchex"}}')
    assert names_transchex(tmp_path)


def test_a_bundle_is_run_without_transformers(tmp_path: Path) -> None:
    folder = write_monai_bundle(tmp_path / "bundle")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ai_models.card import load_card\n"
        "from ai_models.predictor import Predictor\n"
        "from ai_models.trust import Site\n"
        "card = load_card(Path(sys.argv[1]))\n"
        "predictor = Predictor(card, site=Site(trusted_folders=(card.folder,)))\n"
        "predictor.load()\n"
        "predictor.warm_up()\n"
        "assert 'transformers' not in sys.modules, 'taken along'\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(folder)],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
