"""Pipelines: a plan becomes a wired Beam graph, and the graph a run on some runner. Prefect is not known here.

Importing this package imports no Beam: Beam lives in the launcher process, so that whoever starts runs stays small.
"""

from pipelines.launcher import Launcher
from pipelines.requests import RunRequest

__all__ = ["Launcher", "RunRequest"]
