"""The conformance suite: what any model behind a card must do, on generated volumes.

Nothing here knows a model, a back-end or DICOM: a model is its card and a function from an input
to a prediction. `dicom_node.cli.models_verify` runs all of it, through worker processes.
"""
