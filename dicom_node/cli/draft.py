"""``dicom-node draft train --data FILE --base FOLDER --output FOLDER``: a writer of impressions."""

from __future__ import annotations

import argparse
from typing import Any

from ai_models.training.language.command import EPILOG, add_arguments, run_command
from dicom_node.errors import ConfigurationError, ModelFailed


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("draft", help="writers of drafted impressions: fine-tune one")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    train = actions.add_parser(
        "train", help="fine-tune a language model on findings and impressions", epilog=EPILOG
    )
    add_arguments(train)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fine-tune."""
    from ai_models.training.settings import Diverged, TrainingError
    from ai_models.types import ModelError

    try:
        return run_command(arguments)
    except Diverged as error:
        raise ModelFailed(str(error), reason="model.diverged") from error
    except TrainingError as error:
        raise ConfigurationError(str(error)) from error
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error
