"""``dicom-node train RECIPE --data PATH --output DIR``: a model from examinations with a truth."""

from __future__ import annotations

import argparse
from typing import Any

from ai_models.training.command import add_arguments, run_command
from dicom_node.errors import ConfigurationError, ModelFailed


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="train a model on DICOM, NIfTI or a table")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draft a recipe, find a learning rate, or train."""
    from ai_models.training.settings import Diverged, TrainingError
    from ai_models.types import ModelError
    from dicom_node.pipeline.training_cases import NodeReader

    try:
        return run_command(arguments, NodeReader())
    except Diverged as error:
        raise ModelFailed(str(error), reason="model.diverged") from error
    except TrainingError as error:
        raise ConfigurationError(str(error)) from error
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error
