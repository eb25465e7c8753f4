"""TotalSegmentator 2.x for a model card: one CT in, the structures that the card names out.

    python run_totalsegmentator.py INPUT OUTPUT DEVICE 1=spleen 2=kidney_right+kidney_left

Each word gives a label value of the card one or several names of the task ``total``. Runs in the
virtual environment that TotalSegmentator is installed in; docs/cards/totalsegmentator.yaml says
how. The weights must lie where TOTALSEG_WEIGHTS_PATH says: the node gives no network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(source: Path, target: Path, device: str, *words: str) -> None:
    """Write ``labels.nii.gz``."""
    pairs = (word.split("=") for word in words)
    structures = {int(value): names.split("+") for value, names in pairs}
    # Its default is to report every run to its makers; HOME is this run's own.
    settings = Path.home() / ".totalsegmentator"
    settings.mkdir()
    (settings / "config.json").write_text(json.dumps(
        {"totalseg_id": "none", "send_usage_stats": False, "prediction_counter": 0}
    ))
    import nibabel
    import numpy as np
    from totalsegmentator.map_to_binary import class_map
    from totalsegmentator.python_api import totalsegmentator

    image = nibabel.load(source / "image-0.nii.gz")
    found = totalsegmentator(
        image, None, ml=True, task="total", quiet=True, skip_saving=True,
        roi_subset=sorted({name for names in structures.values() for name in names}),
        device="cpu" if device == "cpu" else "gpu",
    )
    classes = np.asarray(found.dataobj).astype(np.uint8)
    numbers = {name: number for number, name in class_map["total"].items()}
    labels = np.zeros(classes.shape, dtype=np.uint8)
    for value, names in structures.items():
        labels[np.isin(classes, [numbers[name] for name in names])] = value
    nibabel.save(nibabel.Nifti1Image(labels, found.affine), target / "labels.nii.gz")


if __name__ == "__main__":
    # Its workers are processes that import this file again.
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
