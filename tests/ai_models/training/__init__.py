"""Tests of training and of what brings in trained networks."""
