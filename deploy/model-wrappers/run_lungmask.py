"""lungmask 0.2.x for a model card: one CT in, the right and the left lung out.

    python run_lungmask.py INPUT OUTPUT DEVICE unet_r231-d5d2fc3d.pth

It wants Hounsfield units with slices first, rows from front to back and columns from right to
left: what a card with ``axes: [S, P, L]`` gives. R231 answers 1 for the right lung, 2 for the
left. Runs in the virtual environment that lungmask is installed in; docs/cards/lungmask.yaml says
how.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(source: Path, target: Path, device: str, weights: str) -> None:
    """Write ``labels.nii.gz``."""
    import nibabel
    import numpy as np
    from lungmask import LMInferer

    image = nibabel.load(source / "image-0.nii.gz")
    inferer = LMInferer(modelpath=weights, force_cpu=device == "cpu", tqdm_disable=True)
    labels = inferer.apply(np.asarray(image.dataobj, dtype=np.float32))
    nibabel.save(
        nibabel.Nifti1Image(labels.astype(np.uint8), image.affine), target / "labels.nii.gz"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
