"""Trials of the grounding guard: scenes of evidence, faithful sentences on them, and false ones.

``python -m ai_models.drafting.trials`` measures both shares and writes what was missed.
"""
