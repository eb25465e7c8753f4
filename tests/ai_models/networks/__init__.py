"""Tests of the network architectures."""
