"""Alignments: what they say, presets, YAML and pyvene forms, and where their sites are in a live model."""

from iit_toolkit.alignment.files import alignment_from_file
from iit_toolkit.alignment.official_nm import alignment_from_nm
from iit_toolkit.alignment.presets import PRESETS, preset
from iit_toolkit.alignment.pyvene_io import from_pyvene, to_pyvene
from iit_toolkit.alignment.resolve import ResolvedSite, resolve
from iit_toolkit.alignment.sites import Place, Site
from iit_toolkit.alignment.spec import Alignment, Variable

__all__ = [
    "PRESETS",
    "Alignment",
    "Place",
    "ResolvedSite",
    "Site",
    "Variable",
    "alignment_from_file",
    "alignment_from_nm",
    "from_pyvene",
    "preset",
    "resolve",
    "to_pyvene",
]
