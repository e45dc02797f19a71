"""From stored outcomes to numbers, verdict, plots and report. Nothing here runs a model or imports torch."""
