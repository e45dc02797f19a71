"""Runs of these tests draw no figures."""

from tests.drawing import no_figures as no_figures
