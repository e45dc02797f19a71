"""Whatever a text holds that a user gives, it is read, or refused in one bounded line: no traceback, no hang, no file.

`FUZZ_INPUTS=200000 pytest tests/fuzz/test_text.py` tries more than the suite does. A failure that it finds belongs into
`PAST`, which is always tried.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iit_toolkit.alignment import Alignment, alignment_from_nm
from iit_toolkit.alignment import official_nm as nm
from iit_toolkit.config import yaml_files
from iit_toolkit.config.loading import dump_config, load_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.config.training_arguments import require_settings
from iit_toolkit.config.yaml_files import dump_yaml, parse_yaml
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.downstream.config import load_finetune_config
from iit_toolkit.errors import UserError
from iit_toolkit.files.text_files import read_text
from iit_toolkit.pipeline.suite.config import load_suite
from tests.fuzz.guard import survives, watched
from tests.fuzz.mutate import damaged

ALIGNMENT = """\
name: example
variables:
  - name: middle
    teacher: [{layer: 6, component: block_output, neurons: [0, 16]}]
    student: &s
      - {layer: 3, component: attention_value_output, heads: [0, 2]}
      - {component: "bert.encoder.layer[1].output"}
  - {name: late, teacher: [{layer: 9, component: block_output, read: {layer: 9, component: block_input}}], student: *s}
positions: {kind: fixed, base: [1, 2], source: [3, 4]}
sources: {kind: dataset}
draw: {middle: 3, late: 1.5}
"""
RUN = """\
name: tiny
seed: 3
task: masked_lm
teacher: embedded
student: {config: {num_hidden_layers: 2, hidden_size: 48}}
data: {path: text, data_files: {train: a.txt, validation: [b.txt, c.txt]}, max_length: 32, packing: false}
mlm: {probability: 0.15, smoothing: 0.7}
arms:
  plain: &p {weights: {task: 1, ce: 2.5}}
  other: {<<: *p, temperature: 3}
  causal: {alignment: diito/middle, training: {max_steps: 5}}
training:
  max_steps: 12
  learning_rate: 3e-4
  per_device_train_batch_size: 4
  save_strategy: steps
  lr_scheduler_kwargs: {num_cycles: 1}
  bf16: false
verification: {pairs: 32, resamples: 100, treatment: causal, baseline: plain}
evaluation: {more: {source: python_docs, eval_split: test}}
"""
SUITE = (
    "name: suite\nseeds: [1, 2]\narm_seeds: {causal: [3]}\narm_students: {plain: {layers: 2}}\nbaseline: plain\n"
    "equal_compute: null\nvariables: [middle]\nfinetune: {tasks: {rte: {max_train_examples: 9}}, seeds: [1]}\nrun:\n"
) + "".join(f"  {line}\n" for line in RUN.splitlines())
TASKS = """\
name: tasks
model: runs/first/causal
tasks:
  sst2: {data: {path: json, data_files: {train: a.json}, eval_splits: [train]}, training: {num_train_epochs: 1}}
  squad: {doc_stride: 16, max_length: 64}
seeds: [111, 222]
training: {learning_rate: 2e-5}
save_models: false
"""
NM = json.dumps(
    {
        "interchange_variable_mappings": [
            {
                "teacher_variable_names": ["$L:[0:2]$H:[0:12]$[0:64]", "$L:6$H:3$[8:16]"],
                "student_variable_names": ["$L:1$H:[0:12]$[0:64]"],
            }
        ]
    }
)
OVERRIDES = "\n".join(
    [
        "training.learning_rate=3e-4",
        "seed=7",
        "arms.causal.alignment={name: x, variables: [{name: v, teacher: [], student: []}]}",
        "student={layers: [0, 3]}",
        "data.max_train_tokens=",
        "name=other",
    ]
)
TEXTS = {"alignment": ALIGNMENT, "run": RUN, "suite": SUITE, "tasks": TASKS, "nm": NM, "override": OVERRIDES}
INPUTS = int(os.environ.get("FUZZ_INPUTS", "20400"))
BATCH = 100
WRITTEN = 8  # of what is read, one in so many is written and read again
OTHERS = list(TEXTS.values())

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)
PAST: tuple[tuple[str, str], ...] = (
    ("alignment", "name: 2020-13-45\nvariables: []"),
    ("alignment", "name: x\nvariables: " + "[" * 900),
    ("alignment", "name: x\nvariables: " + "[" * 2000 + "]" * 2000),
    ("alignment", ALIGNMENT.replace("late, teacher", "middle, teacher")),
    ("alignment", "name: x\nvariables:\n- &v {name: a, teacher: [], student: []}\n" + "- *v\n" * 1500),
    ("alignment", ALIGNMENT.replace("name: middle", 'name: "a\\nb"')),
    ("alignment", ALIGNMENT.replace("middle: 3, late: 1.5", "middle: 1e308, late: 1e308")),
    ("run", RUN.replace("seed: 3", "seed: " + "9" * 5000)),
    ("run", RUN.replace("seed: 3", "seed: !!int x")),
    ("run", RUN.replace("seed: 3", "seed: !!bool maybe")),
    ("run", RUN.replace("{num_cycles: 1}", "&t {a: *t}")),
    ("run", RUN.replace("{num_cycles: 1}", "{" + BOMB.replace("\n", ",") + "}")),
    ("run", RUN.replace("diito/middle", "a" * 5000)),
    ("run", RUN.replace("embedded", '"a\\0b"')),
    ("run", RUN.replace("name: tiny", "name: ..")),
    ("run", RUN.replace("hidden_size: 48", "num_hidden_layers: 999999999")),
    ("run", RUN + "".join(f"key{index}: 1\n" for index in range(5000))),
    ("suite", SUITE.replace("name: suite", 'name: ".."')),
    ("suite", 'name: s\nrun: "a\\0b"\nseeds: [1]\nbaseline: plain'),
    ("suite", "name: s\nrun: /dev/zero\nseeds: [1]\nbaseline: plain"),
    ("suite", "name: s\nseeds: [1]\nbaseline: plain\nrun:\n  training:\n" + indent(BOMB, "    ")),
    ("tasks", TASKS.replace("name: tasks", "name: ../../elsewhere")),
    ("nm", "[" * 3000),
    ("nm", '{"a": ' * 3000),
    ("nm", '"' + '\\"' * 100_000),
    ("nm", NM.replace("[0:2]", "[0:99999999]")),
    ("nm", NM.replace("[0:2]", "[0:9999]").replace("[8:16]", "[0:9]").replace(":3$", ":[0:9999]$")),
    ("nm", NM.replace("[0:2]", f"[0:{'9' * 5000}]")),
    ("nm", '{"interchange_variable_mappings": ' + "9" * 5000 + "}"),
    ("override", "training.x=" + "[" * 5000),
    ("override", ".".join(["training"] + ["a"] * 5000) + "=1"),
    ("override", "seed=" + "x" * 5_000_000),
    ("override", "training={<<: {a: [*a]}}"),
    *(("override", text) for text in ("=1", "a..b=1", ".=", "seed.x.y=1", "student.layers.0=1", "\x1b[2J=1")),
)


class Reader:
    """Reads texts as the toolkit reads files of a folder, without the time that a file takes to be written."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.path = folder / "input.yaml"
        self.content = b""
        self.count = 0
        (folder / "base.yaml").write_text(RUN)
        self.path.touch()
        for module in (yaml_files, nm):
            monkeypatch.setattr(module, "read_text", self._read_text)

    def _read_text(self, path: Path) -> str:
        if path != self.path:
            return read_text(path)
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not text in UTF-8") from None

    def survives(self, kind: str, content: bytes) -> bool:
        """Whether a text of some kind is read; False if it is refused as it should be."""
        self.content = content
        self.count += 1
        return survives(lambda: self._read(kind), content)

    def _read(self, kind: str) -> None:
        if kind == "override":
            overrides = self.content.decode("utf-8", "surrogateescape").split("\n")
            self._check_run(load_config(self.folder / "base.yaml", overrides))
        elif kind == "run":
            self._check_run(load_config(self.path))
        elif kind == "suite":
            self._check_written(load_suite(self.path))
        elif kind == "tasks":
            self._check_written(load_finetune_config(self.path))
        else:
            alignment = alignment_from_nm(self.path) if kind == "nm" else Alignment.from_yaml(self.path)
            assert abs(sum(alignment.probabilities) - 1) < 1e-9
            if self.count % WRITTEN == 0:
                assert Alignment.from_dict(parse_yaml(alignment.to_yaml(), "again")) == alignment

    def _check_run(self, config: RunConfig) -> None:
        self._check_written(config)
        for name in (config.name, *config.arms, *config.evaluation):
            assert (self.folder / name).resolve().parent == self.folder.resolve()
        for arm in config.arms.values():
            require_settings(CausalDistillationConfig, {**config.training, **arm.training}, "training")

    def _check_written(self, config: Any) -> None:
        if self.count % WRITTEN == 0:
            again = type(config).model_validate(parse_yaml(dump_config(config), "again"))
            assert again == config or "nan" in repr(config).lower()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.chdir(tmp_path)
    return Reader(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", TEXTS)
def test_what_is_right_is_read(kind: str, reader: Reader) -> None:
    reader.count = -1  # so that it is written, too
    assert reader.survives(kind, TEXTS[kind].encode())


@pytest.mark.parametrize(("kind", "text"), PAST, ids=[f"{number}-{kind}" for number, (kind, _) in enumerate(PAST)])
def test_past_failures_are_refused(kind: str, text: str, reader: Reader) -> None:
    assert not reader.survives(kind, text.encode())


@pytest.mark.parametrize("kind", TEXTS)
def test_damaged_texts_are_read_or_refused(kind: str, reader: Reader) -> None:
    wanted = INPUTS // len(TEXTS)
    read = 0

    @settings(
        max_examples=wanted // BATCH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**63))
    def batch(seed: int) -> None:
        nonlocal read
        rng = random.Random(seed)
        read += sum(reader.survives(kind, damaged(TEXTS[kind], OTHERS, rng)) for _ in range(BATCH))

    batch()
    assert reader.count >= wanted
    assert 0.01 * wanted < read < 0.9 * wanted, "damage must neither break everything nor nothing"


def test_the_suite_tries_as_many_as_it_says() -> None:
    assert INPUTS // len(TEXTS) // BATCH * BATCH * len(TEXTS) >= 20_000


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**19), 10**19) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=12,
)
LOOKALIKES = st.sampled_from(
    (
        "no",
        "on",
        "3e-4",
        "1:30",
        "010",
        "0x1F",
        "1_0",
        "~",
        "",
        "=",
        "<<",
        ".inf",
        "2020-01-01",
        "null",
        "1e5",
        "-",
        "? a",
        "&a",
        "!x",
    )
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(PLAIN | st.lists(LOOKALIKES) | st.dictionaries(LOOKALIKES.filter(bool), LOOKALIKES))
def test_what_is_written_reads_back(content: Any) -> None:
    def again() -> None:
        assert parse_yaml(dump_yaml(content), "written") == content

    survives(again, content)
    if "\\x" not in ascii(content) and "\\u" not in ascii(content):
        older: Any = yaml.load(dump_yaml(content), Loader=yaml.SafeLoader)  # a reader of YAML 1.1
        assert older == content


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.text() | st.text("-:[]{}&*!|>'\"#,?<% \n\ta1.~", max_size=60))
def test_any_text_is_yaml_or_refused(text: str) -> None:
    survives(lambda: parse_yaml(text, "text"), text)


def test_the_watch_sees_a_hang_a_write_and_a_stray_error(tmp_path: Path) -> None:
    def hang() -> None:
        while True:
            pass

    for call in (hang, lambda: (tmp_path / "x").write_text(""), lambda: (tmp_path / "y").mkdir(), lambda: 1 / 0):
        with pytest.raises(AssertionError, match="Hangs|Writes|ZeroDivisionError"):
            survives(call, "input")
    assert not list(tmp_path.iterdir())
    with watched():
        pass
    (tmp_path / "x").write_text("")
