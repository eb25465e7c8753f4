"""Tests of ai_models/backends."""
