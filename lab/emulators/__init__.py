"""Stateful local servers that stand in for what can't run here, with fault switches.

Each speaks real HTTP on 127.0.0.1, keeps its state in memory, and checks what it is asked and what it answers against
the API's own OpenAPI description.
"""
