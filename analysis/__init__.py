"""From live models to outcomes (`verify`, `perplexity`), and from stored outcomes to numbers, verdict and report.

Only the first part runs models and imports torch: a report can be written anew anywhere.
"""
