"""That a version of a model was made from another one at a site, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ai_models.card_base import Count, Digest, Entry


class Adaptation(Entry):
    """Written by ``dicom-node adapt``. Such a version is made live only after ``models gate``."""

    from_version: Annotated[str, Field(min_length=1, max_length=32)]
    """Version that it was made from."""
    from_weights_sha256: Digest
    """Weights of that."""
    method: Literal["adabn", "head", "lora"]
    """``adabn``: statistics of batch normalisation taken anew from unlabelled inputs; ``head``: the
    last layer trained; ``lora``: small additions to the other layers trained and then merged."""
    cases: Count
    """Inputs that it was made with."""
