"""What the command line's verbs do: prepare, train, verify, report, export."""

from iit_toolkit.pipeline.demo import demo
from iit_toolkit.pipeline.export import export, push_to_hub
from iit_toolkit.pipeline.finished import finished_config
from iit_toolkit.pipeline.planning import plan_verification
from iit_toolkit.pipeline.subspace import search_subspace
from iit_toolkit.pipeline.trace import trace
from iit_toolkit.pipeline.verbs import explain, run, search, train, validate, verify
from iit_toolkit.pipeline.verify_export import verify_export

__all__ = [
    "demo",
    "explain",
    "export",
    "finished_config",
    "plan_verification",
    "push_to_hub",
    "run",
    "search",
    "search_subspace",
    "trace",
    "train",
    "validate",
    "verify",
    "verify_export",
]
