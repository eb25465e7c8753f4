"""``python -m dicom_node``, and the ``dicom-node`` script."""

from __future__ import annotations

import gc


def main() -> None:
    """Start without the garbage collector, which is half of the time that the imports take.

    Commands that run for longer turn it on again: `dicom_node.cli.main.run_command`.
    """
    gc.disable()
    from dicom_node.cli import main as command_line

    command_line.main()


if __name__ == "__main__":
    main()
