"""What the command line's verbs do: prepare, train, verify, report."""

from iit_toolkit.pipeline.check import explain, validate
from iit_toolkit.pipeline.run import run, train, verify
from iit_toolkit.pipeline.search import search

__all__ = ["explain", "run", "search", "train", "validate", "verify"]
