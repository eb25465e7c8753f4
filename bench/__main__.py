"""Measurements of the node beside its peers; without a name the table in short form.

    python -m bench                     one table of all that is done in a few minutes
    python -m bench table [OPTIONS]     the same with options: --full, --only, --resume
    python -m bench quote               the table's figures into README.md
    python -m bench soak [OPTIONS]      an hour of mixed load: memory, handles, threads, latency
    python -m bench receive [OPTIONS]   receiving beside its peers and the physical limit
    python -m bench load [OPTIONS]      10,000 instances while jobs run, with and without journal
    python -m bench ledger [OPTIONS]    the ledger's queries at one million instances
    python -m bench segmentation [OPTIONS]   writing a SEG beside its peers and the floor
    python -m bench inference [OPTIONS]   a chest through the network beside MONAI's plain windows
    python -m bench backbones [OPTIONS]   ten classifiers of images by torch and by ONNX Runtime
    python -m bench arrival [OPTIONS]   from the last slice to the model, reading ahead or not
    python -m bench chaos [OPTIONS]     200 rounds of faults under load, and what was lost
    python -m bench store [OPTIONS]     receiving into an object store beside a folder
    python -m bench hosts [OPTIONS]     2,000 series on several hosts, of which some die
"""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "table", "quote", "soak", "receive", "load", "ledger", "segmentation", "inference",
    "backbones", "arrival", "chaos", "hosts", "store",
)  # fmt: skip


def main() -> int:
    """Run the measurement that is named; options without a name are those of the table."""
    name, *options = sys.argv[1:] or ["table"]
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    if name.startswith("-"):
        name, options = "table", sys.argv[1:]
    if name not in NAMES:
        print(__doc__, file=sys.stderr)
        return 2
    # Only this one: some need packages that others do not.
    measurement = importlib.import_module(f"bench.{name}")
    sys.argv[1:] = options
    return int(measurement.main(options) or 0)


if __name__ == "__main__":
    sys.exit(main())
