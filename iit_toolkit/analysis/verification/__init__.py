"""From live models to outcomes: the same interventions on teacher and students, tabulated case by case."""
