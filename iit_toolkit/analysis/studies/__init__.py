"""Arms over seeds: runs and suites read back, and compared at equal steps and at equal compute."""
