"""Run configs, run folders and the provenance of results."""
