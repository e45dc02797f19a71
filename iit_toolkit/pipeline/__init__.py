"""What the command line's verbs do: prepare, train, verify, report."""

from iit_toolkit.pipeline.check import explain, validate
from iit_toolkit.pipeline.run import run, train, verify

__all__ = ["explain", "run", "train", "validate", "verify"]
