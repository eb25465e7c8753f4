"""Tests of the pure array functions."""
