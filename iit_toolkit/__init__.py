"""Interchange intervention training and verification of neural networks.

    import iit_toolkit as iit

Each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iit_toolkit.alignment.presets import preset
    from iit_toolkit.alignment.sites import Site
    from iit_toolkit.alignment.spec import Alignment, Variable
    from iit_toolkit.analysis.statistics.planning import plan
    from iit_toolkit.analysis.statistics.verdict import judge
    from iit_toolkit.analysis.verification.trace import trace
    from iit_toolkit.config.loading import EMBEDDED_TEACHER, load_config
    from iit_toolkit.data.tensor_rows import TensorRows
    from iit_toolkit.distillation.config import CausalDistillationConfig
    from iit_toolkit.distillation.networks import train_network
    from iit_toolkit.distillation.students import student
    from iit_toolkit.distillation.trainer import CausalDistillationTrainer
    from iit_toolkit.errors import UserError
    from iit_toolkit.interchange.causal_model import CausalModel
    from iit_toolkit.interchange.engine import InterchangeModel
    from iit_toolkit.interchange.learned import LearnedSubspaces
    from iit_toolkit.interchange.sides import new_subspaces
    from iit_toolkit.pipeline.checked import Check, verify
    from iit_toolkit.pipeline.explore import explore
    from iit_toolkit.pipeline.verbs import run

__version__ = "0.1.0"

_HOMES = {
    "Alignment": "alignment.spec",
    "CausalDistillationConfig": "distillation.config",
    "CausalDistillationTrainer": "distillation.trainer",
    "Check": "pipeline.checked",
    "CausalModel": "interchange.causal_model",
    "EMBEDDED_TEACHER": "config.loading",
    "InterchangeModel": "interchange.engine",
    "LearnedSubspaces": "interchange.learned",
    "Site": "alignment.sites",
    "TensorRows": "data.tensor_rows",
    "UserError": "errors",
    "Variable": "alignment.spec",
    "explore": "pipeline.explore",
    "judge": "analysis.statistics.verdict",
    "load_config": "config.loading",
    "new_subspaces": "interchange.sides",
    "plan": "analysis.statistics.planning",
    "preset": "alignment.presets",
    "run": "pipeline.verbs",
    "student": "distillation.students",
    "trace": "analysis.verification.trace",
    "train_network": "distillation.networks",
    "verify": "pipeline.checked",
}

__all__ = [
    "EMBEDDED_TEACHER",
    "Alignment",
    "CausalDistillationConfig",
    "CausalDistillationTrainer",
    "Check",
    "CausalModel",
    "InterchangeModel",
    "LearnedSubspaces",
    "Site",
    "TensorRows",
    "UserError",
    "Variable",
    "explore",
    "judge",
    "load_config",
    "new_subspaces",
    "plan",
    "preset",
    "run",
    "student",
    "trace",
    "train_network",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the names that an editor offers."""
    return sorted({*globals(), *__all__})
