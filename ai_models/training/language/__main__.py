"""``python -m ai_models.training.language``: as ``dicom-node draft train``, also under torchrun."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ai_models.training.language.command import EPILOG, add_arguments, run_command
from ai_models.training.settings import Diverged, TrainingError
from ai_models.types import ModelError


def main(arguments: Sequence[str] | None = None) -> int:
    """Fine-tune, and return the exit code: 1 failed, 2 wrong use."""
    parser = argparse.ArgumentParser(
        prog="python -m ai_models.training.language", description=__doc__, epilog=EPILOG
    )
    add_arguments(parser)
    try:
        return run_command(parser.parse_args(arguments))
    except TrainingError as error:
        print(f"training: {error}", file=sys.stderr)
        return 1 if isinstance(error, Diverged) else 2
    except ModelError as error:
        print(f"training: {error.reason}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
