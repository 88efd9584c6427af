"""Flows: Prefect decides when, how often and for how long; `python -m flows` is the operators' command.

No file format and no Beam is known here.
"""
