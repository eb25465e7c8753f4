"""Patients made of simple solids, with exact masks, for training and tests; no patient is in them."""
