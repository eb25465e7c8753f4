"""Phantoms to train and test on: drawn from a seed with exact truth, seen by several scanners."""
