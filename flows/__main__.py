"""The operators' command: `python -m flows run|plan|serve|schema JOB.yaml`."""

from flows.command import main

main()
