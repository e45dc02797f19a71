"""From outcomes to numbers: estimates with intervals, controls, verdict, comparison."""
