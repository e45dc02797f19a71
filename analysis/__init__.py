"""From live models to outcomes (`verify`, `evaluate`, `search`), and from these to numbers, verdict and report.

Only the first part runs models and imports torch: a report can be written anew anywhere.
"""
