"""Receiving: association, C-STORE, and what of a data set must be known to keep it."""
