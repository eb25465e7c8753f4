"""Measurements of the node beside its peers and the physical limit."""
