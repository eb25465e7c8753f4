"""Patients made of simple solids, with exact masks, for training and tests: nobody is in them."""
