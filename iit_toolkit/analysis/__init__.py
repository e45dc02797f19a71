"""From live models to outcomes (`verification`), from these to numbers and verdict, to reports, and over seeds.

Only `verification` runs models and imports torch: a report can be written anew anywhere.
"""
