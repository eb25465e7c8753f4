"""The status page, its API, and what monitors ask: server-rendered, without anything from outside.
"""
