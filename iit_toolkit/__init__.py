"""Interchange intervention training and verification of neural networks."""

__version__ = "0.1.0"
