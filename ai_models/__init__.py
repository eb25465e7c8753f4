"""Models that turn images into predictions: cards, back-ends, array functions, networks."""

import os as _os

# Libraries tell their makers of each start and each model, unless one of these says no. ONNX
# Runtime does so from threads of its own, where nothing that watches Python's sockets sees it, and
# looks here when it is loaded.
for _name in (
    "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK",
):
    _os.environ[_name] = "1"
