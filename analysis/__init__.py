"""Analyses of this repository: the tables of its documents, and the claims of the paper held against its results."""
