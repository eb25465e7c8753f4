"""Every kind of result under every validator, reader, archive and viewer that can be had.

``python -m tests.acceptance.compatibility`` asks them all and writes ``docs/compatibility.md``.
"""
