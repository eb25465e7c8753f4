"""What in the values of one series cannot go together: its modality, its unit, its bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ai_models.card_input import Intensity

Problems = Iterator[tuple[str, str]]

_VOLUMES = frozenset({"CT", "MR", "PT", "NM"})
_PROJECTIONS = frozenset({"CR", "DX", "MG", "IO", "PX", "RG", "RF", "XA"})
_NO_MODALITY = {"PET": "PT", "MRI": "MR", "XR": "CR or DX", "XRAY": "CR or DX", "MAMMO": "MG"}
_MODALITY_OF = {"HU": "CT", "SUVbw": "PT"}


def modality_problems(here: str, names: Sequence[str], kind: str) -> Problems:
    """Names that DICOM does not write so, or that are of another ``kind``."""
    for position, name in enumerate(names):
        at = f"{here}[{position}]"
        if name.upper() != name or name in _NO_MODALITY:
            wanted = _NO_MODALITY.get(name.upper(), name.upper())
            yield at, f"as DICOM writes it, {wanted} expected"
        elif name in (_PROJECTIONS if kind == "volume" else _VOLUMES):
            other = "image" if kind == "volume" else "volume"
            yield at, f"{name} is no {kind}: input.kind: {other} expected with it"


def unit_problems(here: str, unit: str, names: Sequence[str]) -> Problems:
    """A unit that values of this modality do not have."""
    wanted = _MODALITY_OF.get(unit)
    if wanted is not None and set(names) != {wanted}:
        key_path = here.rpartition(".")[0]
        yield f"{here}.unit", f"only {wanted} is in {unit}: {key_path}.modality: [{wanted}] " \
            "expected with it"


def intensity_problems(here: str, intensity: Intensity, names: Sequence[str]) -> Problems:
    """The unit and the bounds."""
    yield from unit_problems(here, intensity.unit, names)
    yield from bounds_problems(here, intensity)


def bounds_problems(here: str, intensity: Intensity) -> Problems:
    """Bounds in the wrong order, or outside of what the unit has."""
    for key in ("clip", "clip_percentiles", "scale_to"):
        bounds = getattr(intensity, key)
        if bounds is not None and bounds[0] >= bounds[1]:
            yield f"{here}.{key}", f"the lower bound {bounds[0]:g} is not below {bounds[1]:g}"
    percentiles = intensity.clip_percentiles
    if percentiles is not None:
        if intensity.clip is not None:
            yield f"{here}.clip_percentiles", "clip is there as well: one of the two expected"
        if percentiles[0] < 0 or percentiles[1] > 100:
            yield f"{here}.clip_percentiles", "percentiles lie between 0 and 100"
    clip = intensity.clip
    if intensity.unit == "displayed" and clip is not None and (clip[0] < 0 or clip[1] > 1):
        yield f"{here}.clip", "displayed values lie between 0 and 1: scale_to maps them further"
