"""Smaller versions of a model: made, measured beside it, and refused where they answer worse."""
