"""The ledger (what the node knows) and the engine (what drives it), on one database.

Only here are SQLAlchemy and DBOS known. Import `Ledger` from ``dicom_node.ledger.ledger`` and
the engine from ``dicom_node.ledger.engine``: both are heavy, so this package imports neither.
"""
