"""The drafted impression: evidence, writers, and the guard that holds every sentence to evidence.

Nothing here knows DICOM. A node gathers what its report says as an `EvidenceList`, a writer makes
sentences that cite it, and `ai_models.drafting.guard` strikes what the evidence does not say.
"""
