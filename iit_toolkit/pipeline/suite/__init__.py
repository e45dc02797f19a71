"""Suites: every arm of a run config with every seed, each verified and fine-tuned, in pieces that can be resumed."""
