"""``make bench``: measurements beside peers, all in short form or one of them in full.

    python -m bench                     all that is done in some minutes
    python -m bench receive [OPTIONS]   receiving beside its peers and the physical limit
    python -m bench load [OPTIONS]      10,000 instances while jobs run, with and without journal
    python -m bench ledger [OPTIONS]    the ledger's queries at one million instances
    python -m bench segmentation [OPTIONS]   writing a SEG beside its peers and the floor
    python -m bench inference [OPTIONS]   a chest through the network beside MONAI's plain windows
    python -m bench backbones [OPTIONS]   ten classifiers of images by torch and by ONNX Runtime
    python -m bench arrival [OPTIONS]   from the last slice to the model, reading ahead or not
    python -m bench chaos [OPTIONS]     200 rounds of faults under load, and what was lost
    python -m bench hosts [OPTIONS]     2,000 series on several hosts, of which some die
    python -m bench soak [OPTIONS]      an hour of mixed load: memory, handles, threads, latency
"""

from __future__ import annotations

import sys

from bench import (
    arrival,
    backbones,
    chaos,
    hosts,
    inference,
    ledger,
    load,
    receive,
    segmentation,
    soak,
)

_SHORT_LEDGER = ("--instances", "200000", "--calls", "50")
_SHORT_SEGMENTATION = ("--cases", "100x20", "--rounds", "1")
_SHORT_INFERENCE = ("--shape", "100x256x256", "--rounds", "1")
_SHORT_BACKBONES = ("--rounds", "3")
_SHORT_ARRIVAL = ("--slices", "60", "--rounds", "1")
_SHORT_LOAD = ("--instances", "2000", "--rounds", "1", "--jobs", "40")


def main() -> int:
    """Run the measurement that is named, or all; options without a name are those of receive."""
    named = {
        "load": load.main,
        "ledger": ledger.main,
        "segmentation": segmentation.main,
        "inference": inference.main,
        "backbones": backbones.main,
        "arrival": arrival.main,
        "chaos": chaos.main,
        "hosts": hosts.main,
        "soak": soak.main,
    }
    name, *options = sys.argv[1:] or [""]
    if name in named:
        return named[name](options)
    if name == "receive":
        sys.argv[1:] = options
    receive.main()
    if name == "receive":
        return 0
    return (
        segmentation.main(list(_SHORT_SEGMENTATION))
        or inference.main(list(_SHORT_INFERENCE))
        or backbones.main(list(_SHORT_BACKBONES))
        or arrival.main(list(_SHORT_ARRIVAL))
        or ledger.main(list(_SHORT_LEDGER))
        or load.main(list(_SHORT_LOAD))
    )


if __name__ == "__main__":
    sys.exit(main())
