"""Runs of these tests draw no figures, and their embedded teacher is a small one."""

from tests.drawing import no_figures as no_figures
from tests.embedded import embedded_is_small as embedded_is_small
from tests.embedded import small_teacher as small_teacher
