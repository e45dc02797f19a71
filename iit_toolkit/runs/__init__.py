"""Run folders, provenance of results, processes."""
