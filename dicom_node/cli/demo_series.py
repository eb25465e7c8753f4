"""A generated chest as a CT series, for the demonstration: no patient is in it."""

from __future__ import annotations

from pathlib import Path


def write_phantom_series(folder: Path, seed: int) -> list[Path]:
    """Draw a chest and write it as CT Image Storage; the same seed gives the same UIDs."""
    from ai_models.array.phantom import chest_phantom
    from ai_models.types import Volume
    from dicom_node.cli.generated_series import Description, write_series

    phantom = chest_phantom(seed)
    told = Description(
        "demo", seed, "CT", "PHANTOM^CHEST", f"PHANTOM-{seed}", "Chest phantom",
        "Generated chest CT",
    )
    return write_series(Volume(phantom.volume_hu, phantom.affine_lps), folder, told)
