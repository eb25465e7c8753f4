"""A worker starts without MONAI, and with no more of its company than a network needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
