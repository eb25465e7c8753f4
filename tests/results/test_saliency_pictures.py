"""Where a classifier looked, as a picture for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dicom_node.results.saliency_pictures import write_saliency


def test_the_slice_with_most_of_the_map_is_shown_warm_where_it_is(tmp_path: Path) -> None:
    display = np.full((3, 20, 40), 100, dtype=np.uint8)
    found = np.zeros((3, 20, 40), dtype=np.float32)
    found[1, :, 20:] = 1.0
    (path,) = write_saliency(
        display, {"pleural effusion": found, "nothing": np.zeros_like(found)},
        {"pleural effusion": 0.7, "nothing": 0.1}, tmp_path, "saliency", row_to_column=2.0,
    )
    assert path.name == "saliency_pleural_effusion.png"
    picture = np.asarray(Image.open(path)).astype(int)
    # 20 rows twice as high as they are wide: as high as 40 columns are wide.
    assert picture.shape[1] == 640 + 40
    left, right = picture[300, 100], picture[300, 600]
    assert left.tolist() == [100, 100, 100] and right[0] > right[2] + 50
