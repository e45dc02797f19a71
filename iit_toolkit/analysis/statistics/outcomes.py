"""The outcomes table: one row per student, variable and evaluated token; all numbers start from it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from iit_toolkit.analysis.statistics.parquet_files import SCHEMA_KEY, read_columns, refuse_columns
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.files.printable import printable
from iit_toolkit.runs.folder import write_atomically

SCHEMA_NAME = "iit_toolkit/outcomes/3"
UNTRAINED = "untrained"
"""What the student before training is called."""
NO_POSITION = -1
"""Value of `position` where the answer belongs to the whole input (classification)."""
NO_GOLD = -100
"""Value of `gold` where there is no right answer."""

WRONG_LAYER = "wrong layer"
RANDOM_NEURONS = "random neurons"
OTHER_VARIABLE = "other variable"
SHUFFLED_SOURCES = "shuffled sources"
SHUFFLED = (WRONG_LAYER, RANDOM_NEURONS, OTHER_VARIABLE, SHUFFLED_SOURCES)
"""Controls of the judged student; a table of their own holds them, where they stand in the place of students."""
IN_TEACHER = {name: f"{name}, in the teacher" for name in SHUFFLED}
"""What the teacher is called there that is swapped as the student of a control is: at its own other sites, or from the
other source. It says in which cases the control can be told from the alignment."""
UNALIGNED = "unaligned sites"
"""What stands there for swaps that the alignment does not have, in the student and in the teacher."""

UNALIGNED_NEURONS = "unaligned neurons"
"""What the names of unaligned sites begin with that are parts of aligned places; the others are whole blocks."""

KEY = ("student", "variable", "base", "source", "position")
MOST_NAMES, LONGEST_NAME = 2000, 500
"""Of students or variables in a table, and their characters."""
_INTEGERS = ("base_text", "source_text", "gold", "teacher_base", "teacher_cf", "student_base", "student_cf")
_EFFECT = ("effect_n", "effect_x", "effect_y", "effect_xx", "effect_yy", "effect_xy")
_GRADED = ("teacher_effect", "student_effect", "effect_error", "teacher_moved", "student_moved")
_BEHAVIOUR = ("kl", "kl_cf", "kl_ignored", "teacher_nll", "student_nll")
_MOST = 1e100
_NUMBERS = {
    **dict.fromkeys(_BEHAVIOUR, -1e-3),
    **dict.fromkeys(("effect_xx", "effect_yy", *_GRADED), 0.0),
    **dict.fromkeys(("effect_x", "effect_y", "effect_xy"), -_MOST),
}
"""The least that each may be, rounding included, and the most: of these, sums and their squares are finite."""

SCHEMA = pa.schema(
    [(name, pa.string()) for name in KEY[:2]]
    + [(name, pa.int64()) for name in KEY[2:]]
    + [("inside", pa.bool_())]
    + [(name, pa.int64()) for name in _INTEGERS]
    + [(name, pa.float64()) for name in _EFFECT + _GRADED + _BEHAVIOUR],
    metadata={SCHEMA_KEY: SCHEMA_NAME.encode()},
)
"""Columns, in order.

`base` and `source` are ids of examples, `base_text` and `source_text` of the texts these were cut from (examples of
one text hang together), `inside` says whether the position is swapped, `*_base` and `*_cf` are the answers without and
with the intervention. `effect_n` to `effect_xy` are the number, sums, sums of squares and sum of products of the
changes of log-probability (x of the teacher, y of the student).

With dp what the intervention changes of a model's probabilities, over all answers: `teacher_effect` and
`student_effect` are |dp|^2, `effect_error` is |dp of the student - dp of the teacher|^2, `teacher_moved` and
`student_moved` are sum |dp| / 2. `kl` and `kl_cf` are KL(teacher || student) in nats in the base and in the
counterfactual run, `kl_ignored` is KL(teacher's counterfactual run || student's base run), `*_nll` nats of the gold
token in the base run (NaN without gold).
"""


class Table:
    """An outcomes table that grows batch by batch, held by Arrow, outside the heap of the models' activations.

    Many small tables, kept while large activations come and go, would leave the heap full of holes that none of these
    fits into: it would grow by about the logits of every batch.
    """

    def __init__(self) -> None:
        """Make an empty table."""
        self._sink = pa.BufferOutputStream()
        self._writer = pa.ipc.new_stream(self._sink, SCHEMA)

    def add(self, frame: pd.DataFrame) -> None:
        """Copy the rows of a batch; `frame` has the columns of `SCHEMA`."""
        self._writer.write_table(pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False))

    def frame(self, variables: Sequence[str]) -> pd.DataFrame:
        """Return all rows; none can be added any more.

        Args:
            variables: The rows of a base are in this order, those of other variables last, and else as they were added.
                The lowest base is first.
        """
        self._writer.close()
        table = pa.ipc.open_stream(self._sink.getvalue()).read_all()
        number = {name: index for index, name in enumerate(variables)}
        coded = table["variable"].combine_chunks().dictionary_encode()
        order = np.array([number.get(name, len(number)) for name in coded.dictionary.to_pylist()], dtype=np.int64)
        ranks = order[coded.indices.to_numpy()]
        return table.take(np.lexsort((ranks, table["base"].to_numpy()))).to_pandas()


def write_outcomes(frame: pd.DataFrame, path: Path) -> None:
    """Write the table as parquet, whole or not at all.

    Args:
        frame: The columns of `SCHEMA`, in any order.
        path: The file; one that exists is replaced.

    Raises:
        UserError: If columns are missing or unknown, a value does not fit its column, or a case stands
            twice.
    """
    refuse_columns(sorted(frame.columns, key=_order), SCHEMA.names, "the outcomes", SCHEMA_NAME)
    try:
        table = pa.Table.from_pandas(frame[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"the outcomes hold a value of the wrong type: {one_line(error)}") from error
    table = table.replace_schema_metadata(SCHEMA.metadata)
    require_cases(frame, "the outcomes")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def read_outcomes(path: Path) -> pd.DataFrame:
    """Read and check an outcomes table.

    Raises:
        UserError: If the file is absent or unreadable, is a link to elsewhere, has another schema, or holds a case
            twice or values that no verification gives.
    """
    if not path.is_file():
        raise UserError(f"{path}: no outcomes table there; `iit-toolkit verify` writes one")
    refuse_links_out(path.parent, path)
    columns: dict[str, Any] = {}
    for name, column in read_columns(path, SCHEMA, nullable=(*KEY, *_EFFECT, *_GRADED, *_BEHAVIOUR)):
        if name in KEY and column.null_count:
            raise UserError(f"{path}: a case without {' or '.join(KEY)}; every case needs all of them")
        columns[name] = _narrow(column.to_pandas())
    frame = pd.DataFrame(columns, copy=False)
    require_cases(frame, str(path))
    _require_values(frame, str(path))
    return frame


def _narrow(values: Any) -> Any:
    """Numbers of tokens, texts and positions in half the memory, if they are small enough."""
    if values.dtype != "int64" or not len(values) or not -(2**31) <= values.min() <= values.max() < 2**31:
        return values
    return values.astype("int32")


def _require_values(frame: pd.DataFrame, where: str) -> None:
    """Check what a table that was changed could hold and no verification gives."""
    for name in KEY[:2]:
        found = [str(one) for one in pd.unique(frame[name])]
        if len(found) > MOST_NAMES:
            raise UserError(f"{where}: {len(found):,} names in column {name}, more than {MOST_NAMES:,}")
        for one in found:
            if not 0 < len(one) <= LONGEST_NAME or printable(one) != one:
                raise UserError(
                    f"{where}: column {name} holds the name {printable(one)[:60]!r}; a name has 1 to {LONGEST_NAME} "
                    "characters, and no control characters"
                )
    for name in (*KEY[2:4], "base_text", "source_text", "position"):
        least = NO_POSITION if name == "position" else 0
        if int(frame[name].min()) < least:
            raise UserError(f"{where}: column {name} holds {int(frame[name].min())}; the least is {least}")
    for example in KEY[2:4]:
        if len(frame[[example, f"{example}_text"]].drop_duplicates()) > frame[example].nunique():
            raise UserError(f"{where}: column {example}_text names two texts of one {example}; verify the run again")
    if not (frame["effect_n"].to_numpy() >= 0).all():
        raise UserError(f"{where}: column effect_n holds what is no number of tokens; verify the run again")
    answered = frame["gold"].to_numpy() != NO_GOLD
    for name, least in _NUMBERS.items():
        values = frame[name].to_numpy()
        values = values[answered] if name.endswith("_nll") else values
        if not ((values >= least) & (values < _MOST)).all():
            raise UserError(f"{where}: column {name} holds what no models give there; verify the run again")


def _order(name: str) -> int:
    return SCHEMA.names.index(name) if name in SCHEMA.names else len(SCHEMA.names)


def require_cases(frame: pd.DataFrame, where: str) -> None:
    """Check that there are cases, that none stands twice and that none lacks its key.

    Raises:
        UserError: Naming the first offending case.
    """
    if not len(frame):
        raise UserError(f"{where}: no cases; at least one student and variable must be verified")
    if frame[list(KEY)].isna().to_numpy().any():
        raise UserError(f"{where}: a case without {' or '.join(KEY)}; every case needs all of them")
    twice = frame.duplicated(list(KEY)).to_numpy()
    if twice.any():
        first = frame.iloc[int(twice.argmax())]
        case = ", ".join(f"{name}={first[name]}" for name in KEY)
        raise UserError(f"{where}: {int(twice.sum())} cases stand twice, first {case}; each may stand once")
