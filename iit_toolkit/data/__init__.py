"""Texts, rows of token ids, and batches."""
