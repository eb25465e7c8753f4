"""Where a classification looked: a map for each score, on the grid of the input."""

from __future__ import annotations

from ai_models.explain.maps import Explained, explain

__all__ = ["Explained", "explain"]
