from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from iit_toolkit.config import loading as module
from iit_toolkit.config.loading import bundled_configs, dump_config, load_config, schema_of
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError

MINIMAL = """\
name: first
teacher: embedded
data: {source: python_docs}
arms:
  plain: {weights: {task: 1}}
  causal: {alignment: diito/middle}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL)
    return path


def test_command_line_over_yaml_over_default(path: Path) -> None:
    path.write_text(MINIMAL + "seed: 7\ntraining: {learning_rate: 1.0, steps: 10}\n")
    assert load_config(path).seed == 7
    settings = load_config(path, ["training.learning_rate=3e-4", "data.max_length=64", "seed=8"])
    assert settings.training == {"learning_rate": 3e-4, "steps": 10}
    assert (settings.seed, settings.data.max_length, settings.data.packing) == (8, 64, True)
    assert settings.verification.pairs == 512


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5e1", 5.0),
        ("3e", "3e"),
        ("e4", "e4"),
        ("'3e-4'", "3e-4"),
    ],
)
def test_numbers_with_an_exponent_are_numbers(path: Path, text: str, value: object) -> None:
    assert load_config(path, [f"training.x={text}"]).training == {"x": value}
    path.write_text(MINIMAL + f"training: {{x: {text}}}\n")
    assert load_config(path).training == {"x": value}


def test_an_override_reaches_new_sections_lists_and_null(path: Path) -> None:
    settings = load_config(path, ["student.layers=[0, 3]", "arms.plain.weights.kd=2", "training.a.b=c=d"])
    assert settings.student.layers == [0, 3]
    assert settings.arms["plain"].weights == {"task": 1, "kd": 2}
    assert settings.training == {"a": {"b": "c=d"}}
    assert load_config(path, ["data.max_train_tokens="]).data.max_train_tokens is None


def test_an_override_that_an_arm_would_overrule_is_refused(path: Path) -> None:
    path.write_text(MINIMAL + "  long: {training: {max_steps: 300}}\n")
    own = (
        "training.max_steps does not reach arms.long, which has its own training.max_steps .300.; give arms.long.train"
    )
    with pytest.raises(UserError, match=own):
        load_config(path, ["training.max_steps=3"])
    arms = load_config(path, ["training.max_steps=3", "arms.long.training.max_steps=4"]).arms
    assert arms["long"].training == {"max_steps": 4}
    for whole in ("arms.long.training={max_steps: 5}", "arms.long={training: {max_steps: 5}}"):
        assert load_config(path, ["training.max_steps=3", whole]).arms["long"].training == {"max_steps": 5}
    assert load_config(path, ["training.save_steps=3"]).training == {"save_steps": 3}


def test_an_override_of_an_anchored_section_leaves_its_twin(path: Path) -> None:
    path.write_text(
        "name: x\nteacher: t\ndata: {source: python_docs}\n"
        "arms:\n  a: &a {weights: {kd: 1}}\n  b: *a\n  c: {<<: *a, temperature: 1.0}\n"
    )
    arms = load_config(path, ["arms.b.weights.kd=5"]).arms
    assert [arms[name].weights["kd"] for name in "abc"] == [1, 5, 1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.packng=true", 'data.packng: unknown key, did you mean "packing"?'),
        ("sed=1", 'sed: unknown key, did you mean "seed"?'),
        ("arms.plain.weigths.kd=1", 'arms.plain.weigths: unknown key, did you mean "weights"?'),
        ("mlm.xyz=1", "mlm.xyz: unknown key, valid: probability, smoothing"),
        ("mlm.probability=1.5", "mlm.probability: input should be less than 1, not 1.5"),
        ("mlm.probability=.nan", "mlm.probability: input should be a finite number"),
        ("seed=true", "seed: input should be a valid integer"),
        ("seed='7'", "seed: input should be a valid integer"),
        ("seed.x=1", "seed: input should be a valid integer"),
        ("data.source=hub", "data.source: input should be 'python_docs', 'datasets' or 'minimal_pairs', not 'hub'"),
        ("data.source=datasets", "data: source datasets needs a path"),
        ("data.path=parquet", "data: source python_docs takes no path"),
        ("data.source_column=bad", "data: source python_docs takes no source_column"),
        (
            "data={path: json, span_column: at}",
            "data: span, answer, candidates and family columns are of pairs: give source_column, too",
        ),
        (
            "data={path: json, source_column: bad, span_column: at}",
            "data: give both span_column and source_span_column",
        ),
        ("data={path: json, source_column: text}", "data: the columns of a pair must differ; got text, text"),
        (
            "data={path: json, source_column: bad, max_train_tokens: 9}",
            "data: a pair (source_column) takes no max_train_tokens; leave it out",
        ),
        (
            "data={path: json, source_column: bad, min_length: 3}",
            "data: a pair (source_column) takes no min_length; leave",
        ),
        ("data={path: json, label_column: y, min_length: 3}", "data: a labelled row takes no min_length; leave it out"),
        ("data.pairs_per_family=9", "data: source python_docs takes no pairs_per_family; leave it out"),
        ("data={path: json, pairs_per_family: 9}", "data: source datasets takes no pairs_per_family; leave it out"),
        ("data.text_column=sentence", "data: source python_docs takes no text_column; leave it out"),
        (
            "data={source: minimal_pairs, families: [agreement], detokenize: wikitext, max_train_tokens: 9}",
            "data: source minimal_pairs takes no detokenize or max_train_tokens; leave it out",
        ),
        (
            "evaluation={other: {source: minimal_pairs, families: [agreement, pronouns, agreement]}}",
            "evaluation.other.families: a family is given twice: agreement, pronouns, agreement",
        ),
        ("data={path: json, label_column: y}", "data: label_column is for task sequence_classification"),
        ("verification={baseline: causal}", "verification.baseline causal is the judged arm (treatment); give another"),
        (
            "verification={baseline: plain, treatment: plain}",
            "verification.baseline plain is the judged arm",
        ),
        ("data.max_train_examples=5", "data: max_train_examples is of labelled rows: give label_column, or use"),
        ("data.max_length=0", "data.max_length: input should be greater than 0"),
        ("data.min_length=0", "data.min_length: input should be greater than 0"),
        ("student.layers=half", "student.layers: input should be a valid integer, not 'half' or "),
        ("student={layers: 2, checkpoint: x}", "student: give only one of layers, config and checkpoint"),
        ("arms.Plain={}", 'arms: arm "Plain": the name must consist of lower-case letters'),
        ("arms.figures={}", 'arms: arm "figures": this name is taken'),
        ("arms.plain.weights.kd=-1", "arms.plain.weights.kd: input should be greater than or equal to 0"),
        ("task=sequence_classification", "needs data.label_column"),
        ("task=mlm", "task: input should be 'masked_lm'"),
        ("verification.treatment=cause", 'verification.treatment "cause" is no arm (arms: plain, causal)'),
        *((f"name={name}", "can't name a folder") for name in ("..", ".", "'..'", ".git", "-x", "a.", "'a b'", "''")),
        ("name=nul", "name: 'nul' is the name of a device on Windows"),
        ("name=" + "a" * 201, "has more than 200 bytes"),
        ("arms." + "a" * 201 + "={}", "has more than 200 bytes"),
        ("arms.con={}", "arm 'con' is the name of a device"),
        ("evaluation={../../x: {source: python_docs}}", "can't name a folder"),
        ("evaluation={..: {source: python_docs}}", "can't name a folder"),
        ("teacher=" + "a" * 5000, "teacher: path 'aaa"),
        ("teacher=./" + "a/" * 3000, "is too long for a path (6,002 bytes)"),
        ("student={checkpoint: " + "a" * 300 + "}", "student.checkpoint: path 'aaa"),
        ("arms.causal.alignment=" + "a" * 5000, "arms.causal.alignment: path 'aaa"),
        ("verification.alignment=" + "a" * 5000, "verification.alignment: path 'aaa"),
        ("data={path: json, data_files: {train: [a, " + "b" * 300 + "]}}", "data.data_files: path 'bbb"),
        ('data={path: json, data_files: "a\\nb"}', "data.data_files: path 'a\\nb' holds a control character"),
        ("student={config: {num_hidden_layers: 999999999}}", "models are built of at most 1,000"),
        ("student={config: {n_layer: 1001}}", "models are built of at most 1,000"),
        ("student={config: {hidden_size: 10000000000}}", "models are built of at most 100,000,000"),
        ("data.max_length=99999999999", "input should be less than 2147483648"),
        ("verification.resamples=9999999999", "input should be less than or equal to 1000000"),
        ("mlm.smoothing=.inf", "input should be a finite number"),
        ("data.packing=no", "data.packing: input should be a valid boolean, not 'no'; write true or false"),
        ("seed=1:30", "seed: input should be a valid integer, not '1:30'"),
        ("seed=0x1F", "seed: input should be a valid integer, not '0x1F'"),
        ("seed=010", "seed: input should be a valid integer, not '010'"),
        ("seed=1_000", "seed: input should be a valid integer, not '1_000'"),
        ("seed=3.0", "seed: input should be a valid integer, not 3.0"),
        ("seed=true", "seed: input should be a valid integer, not True"),
        ("training=[1]", "training: input should be a valid dictionary, not [1]"),
        ("arms.plain=[]", "arms.plain: input should be a valid dictionary"),
        ("data=", "data: input should be a valid dictionary"),
        ("name=a/b", "name: 'a/b' can't name a folder"),
        ("teacher=", "teacher: input should be a valid string, not None"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"config {path}: ")
    assert "\n" not in str(caught.value)


def test_the_name_of_the_held_out_split_is_taken_in_classification(path: Path) -> None:
    load_config(path, ["evaluation={validation: {path: json}}"])
    labelled = ["data={path: json, label_column: kind}", "evaluation={validation: {path: json, label_column: kind}}"]
    with pytest.raises(UserError, match="evaluation.validation: data.eval_split is measured under that name already"):
        load_config(path, [*labelled, "task=sequence_classification"])


def test_masking_is_of_masked_language_models(path: Path) -> None:
    given = ["data={path: json, label_column: kind}", "task=sequence_classification"]
    load_config(path, given)
    with pytest.raises(UserError, match="mlm is for task masked_lm; leave it out"):
        load_config(path, [*given, "mlm.probability=0.3"])
    load_config(path, ["mlm.probability=0.3"])


@pytest.mark.parametrize(
    "override", ["seed", "=1", "a..b=1", ".=1", "seed=[1", "seed=!!int x", "name.x=1", "name.x.y=1"]
)
def test_an_override_that_cannot_be_applied_is_named(path: Path, override: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    assert f'override "{override}"' in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training." + "a." * 5000 + "b=1", "no key lies 5,002 levels deep"),
        ("training.x=" + "[" * 5000, "nested more than 40 levels"),
        ("training.x=" + "x" * 5_000_000, "larger than 1 MiB"),
        ("k" * 5_000_000 + "=1", "unknown key"),
        ("seed=" + "9" * 5000, "more than 20 digits"),
        ("training.x={a: &a [*a]}", "stands inside of what it names"),
        ("\x1b[2J=1", "unknown key"),
        ("seed=\x1b", "no valid YAML"),
        ("seed=\udcc3", "no valid YAML"),
    ],
    ids=lambda one: ascii(one)[:20],
)
def test_an_override_beyond_a_bound_is_one_short_line(path: Path, override: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_config(path, [override])
    assert len(str(caught.value)) <= 400 and str(caught.value).isprintable()


def test_no_and_its_like_are_texts(path: Path) -> None:
    assert load_config(path, ["training.save_strategy=no"]).training == {"save_strategy": "no"}
    path.write_text(MINIMAL + "training: {save_strategy: no, report_to: off}\n")
    assert load_config(path).training == {"save_strategy": "no", "report_to": "off"}


def test_a_config_with_keys_that_are_numbers_reads_back(path: Path, tmp_path: Path) -> None:
    settings = load_config(path, ["student={config: {id2label: {0: no, 1: yes}}}", "training.x='3e-4'"])
    assert settings.student.config == {"id2label": {"0": "no", "1": "yes"}}
    (tmp_path / "again.yaml").write_text(dump_config(settings))
    assert load_config(tmp_path / "again.yaml") == settings


def test_many_mistakes_are_counted(path: Path) -> None:
    path.write_text(MINIMAL + "".join(f"key{index}: 1\n" for index in range(2000)))
    with pytest.raises(UserError, match="and 1,995 more mistakes$") as caught:
        load_config(path)
    assert len(str(caught.value)) <= 400


def test_what_python_put_into_a_config_is_not_written_if_it_can_t_be(path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    for value in (endless, {"a": object()}):
        config = load_config(path).model_copy(update={"training": value})
        with pytest.raises(UserError, match="can't be written"):
            dump_config(config)


def test_all_mistakes_are_told_at_once_wrong_keys_first(path: Path) -> None:
    path.write_text("teacher: t\nnmae: x\ndata: {source: python_docs}\n")
    with pytest.raises(UserError, match='nmae: unknown key, did you mean "name".*name: this key is missing'):
        load_config(path)


def test_valid_keys_are_listed_once(path: Path) -> None:
    path.write_text(MINIMAL + "aaa: 1\nbbb: 2\n")
    with pytest.raises(UserError, match="aaa: unknown key, valid: .*; bbb: unknown key$"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "name: again\n", 'key "name" occurs twice'),
        (
            MINIMAL.replace("plain: {weights: {task: 1}}", "plain: {weights: {task: 1, task: 2}}"),
            "occurs twice",
        ),
        ("- a\n", "must hold keys and values"),
        ("", "must hold keys and values"),
        ("a: [", "no valid YAML"),
        ("name: !!python/object/apply:os.getcwd []\n", "no valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_a_user_error(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_a_user_error(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not text in UTF-8"):
        load_config(path)


def test_a_wrong_name_gets_the_nearest_bundled_one(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "quickstart.yaml").write_text(MINIMAL)
    monkeypatch.setattr(module, "ASSETS", tmp_path / "assets")
    assert load_config("quickstart") == load_config(path)
    with pytest.raises(UserError, match='"quikstart": did you mean "quickstart"?'):
        load_config("quikstart")
    with pytest.raises(UserError, match="valid: quickstart"):
        load_config("else.yaml")
    with pytest.raises(UserError, match="is a folder"):
        load_config(tmp_path)


def test_every_bundled_config_is_valid() -> None:
    for name in bundled_configs():
        assert bool(load_config(name).arms) == (name != "demo")  # the demo trains nothing


def test_a_dumped_config_reads_back_equal(path: Path, tmp_path: Path) -> None:
    overrides = [
        "student.layers=[0, 2]",
        "training.learning_rate=5e-05",
        "training.big=1e+20",
        "mlm.smoothing=0.7",
    ]
    settings = load_config(path, [*overrides, "arms.causal.alignment={name: x, variables: []}"])
    (tmp_path / "again.yaml").write_text(dump_config(settings))
    assert load_config(tmp_path / "again.yaml") == settings


def test_the_schema_knows_every_key_of_a_dumped_config(path: Path) -> None:
    schema = schema_of(RunConfig)

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        return node

    document = yaml.safe_load(dump_config(load_config(path)))
    assert set(document) == set(schema["properties"])
    for section in ("student", "data", "mlm", "verification"):
        node = resolve(schema["properties"][section])
        assert set(document[section]) == set(node["properties"])
        assert node["additionalProperties"] is False
    assert "paper" in resolve(schema["properties"]["mlm"])["properties"]["smoothing"]["description"]
