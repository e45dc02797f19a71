"""Loads models, and finds numbers in them that are not finite."""
