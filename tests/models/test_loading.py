"""Models are loaded whole, into memory of their own, without running their code, or told in one line why not."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from iit_toolkit.errors import UserError
from iit_toolkit.models.loading import load_model, make_plain, plain_outputs, refuse_other_problem
from tests.families import bert_config


def saved(folder: Path, **entries: Any) -> Path:
    """A tiny BERT in float32, as its weights are loaded: nothing is copied by a conversion."""
    torch.manual_seed(0)
    tf.BertForMaskedLM(bert_config()).save_pretrained(folder)
    edit(folder, **entries)
    return folder


def edit(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def load(folder: Path) -> Any:
    return load_model(tf.AutoModelForMaskedLM, str(folder), "teacher")


def weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    found = load_file(folder / "model.safetensors")
    change(found)
    (folder / "model.safetensors").unlink()
    save_file(found, folder / "model.safetensors", {"format": "pt"})


def as_bin(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


class _Executed:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": _Executed()}))


def only(*names: str) -> Callable[[Path], None]:
    def keep(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            (folder / name).write_text("{}")

    return keep


def without_weights(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        for name in names:
            (folder / name).write_text("x")

    return change


def config_of(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_text(text) and None


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def without_a_shard(folder: Path) -> None:
    tf.BertForMaskedLM(bert_config()).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    max(folder.glob("model-*.safetensors")).unlink()


def with_code(folder: Path) -> None:
    (folder / "theirs.py").write_text("open('executed', 'w')\n")
    edit(folder, model_type="theirs", auto_map={"AutoConfig": "theirs.C", "AutoModelForMaskedLM": "theirs.M"})


def spoilt(folder: Path) -> None:
    def change(found: dict[str, Any]) -> None:
        found["bert.encoder.layer.1.output.dense.weight"][0, :3] = float("nan")

    weights(folder, change)


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "adapter": (only("adapter_config.json", "tokenizer.json"), "is an adapter .*merge it into its base model"),
    "adapter beside a config": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        "is an adapter .*merge it",
    ),
    "quantised": (
        lambda folder: edit(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        "saved quantised by bitsandbytes.* install that library, or give the model unquantised",
    ),
    "quantised by nobody": (
        lambda folder: edit(folder, quantization_config={"quant_method": "nobody"}),
        "saved quantised by nobody, which transformers does not know",
    ),
    "empty": (only(), "the folder is empty"),
    "tokenizer only": (only("tokenizer.json", "tokenizer_config.json"), "no config.json"),
    "GGUF only": (only("model.gguf"), "no config.json, only weights of GGUF"),
    "Flax only": (without_weights("flax_model.msgpack"), "only weights of Flax"),
    "TensorFlow only": (without_weights("tf_model.h5"), "only weights of TensorFlow"),
    "ONNX only": (without_weights("model.onnx"), "only weights of ONNX"),
    "no weights": (without_weights(), "holds no weights"),
    "no JSON": (config_of("not JSON"), "config.json cannot be read as JSON"),
    "deep JSON": (config_of("[" * 100_000), "config.json cannot be read as JSON"),
    "a list": (config_of("[]"), "config.json is no mapping"),
    "huge number": (config_of('{"model_type": "bert", "hidden_size": ' + "9" * 5000 + "}"), "config.json cannot be"),
    "no model_type": (config_of("{}"), "no model_type"),
    "unknown model_type": (config_of('{"model_type": "brt"}'), "model_type 'brt' .*did you mean"),
    "model_type of another kind": (config_of('{"model_type": [1]}'), r"model_type '\[1\]'"),
    "no such sizes": (lambda folder: edit(folder, hidden_size=-3), "cannot be loaded"),
    "endless": (lambda folder: edit(folder, num_hidden_layers=10**9), "1,000,000,000 layers"),
    "own code": (with_code, r"its code is in the checkpoint \(auto_map\) and is not run"),
    "truncated": (truncated, "unreadable or truncated.*fetch them again"),
    "pickled": (pickled, r"teacher"),
    "bin that is no mapping": (lambda folder: as_bin(folder, [1, 2]), r"cannot be loaded"),
    "missing shard": (without_a_shard, r"1 of the \d+ files of weights in model.safetensors.index.json are missing"),
    "other shapes": (
        lambda folder: edit(folder, vocab_size=49),
        r"weights do not fit config.json, e.g. .* has shape \[50",
    ),
    "fewer layers": (
        lambda folder: edit(folder, num_hidden_layers=2),
        r"fewer layers than the weights \(\d+ weights would be ignored, e.g. bert.encoder.layer.2",
    ),
    "not finite": (spoilt, "3 of 1,536 values of bert.encoder.layer.1.output.dense.weight are NaN or infinite"),
    "other task": (lambda folder: edit(folder, model_type="vit"), "teacher"),
}


@pytest.mark.parametrize(("break_", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_loaded_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_: Callable[[Path], Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    break_(saved(tmp_path / "model"))
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path / "model")
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 400
    assert not (tmp_path / "executed").exists()


def mapped(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no Linux")
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_no_weight_is_mapped_from_its_file(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path / "model")
    if kind == "bin":
        as_bin(folder, load_file(folder / "model.safetensors"))
    before = tf.AutoModelForMaskedLM.from_pretrained(folder)
    expected = {name: value.clone() for name, value in before.state_dict().items()}
    del before
    model = load(folder).model
    assert mapped(folder) == []
    for path in (*folder.glob("*.safetensors"), *folder.glob("*.bin")):
        with path.open("r+b") as file:
            file.truncate(10)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    head = model.get_output_embeddings().weight
    assert head is model.get_input_embeddings().weight  # still tied


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_loaded_as_float(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    tf.BertForMaskedLM(bert_config()).to(getattr(torch, kind)).save_pretrained(folder)
    assert load(folder).model.dtype == torch.float32


def test_what_is_not_used_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = saved(tmp_path / "model")
    weights(folder, lambda found: found.update({"cls.seq_relationship.bias": torch.zeros(2)}))
    for _ in range(2):
        load(folder).tell_unused(f"teacher {folder}")
    told = [record.message for record in caplog.records]
    assert told == [
        f"teacher {folder}: 1 weights of the checkpoint are not used by BertForMaskedLM, e.g. cls.seq_relationship.bias"
    ]


def test_other_outputs_are_switched_off_and_the_model_can_be_saved(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", output_attentions=True, output_hidden_states=True, return_dict=False)
    model = load(folder).model
    outputs = model(torch.tensor([[1, 2, 3]]))
    assert list(outputs) == ["logits"]
    model.save_pretrained(tmp_path / "again")


def test_outputs_are_plain_for_a_while_only() -> None:
    model = tf.BertForMaskedLM(bert_config(attn_implementation="eager")).eval()
    model.config.output_hidden_states = True
    model.config.output_attentions = True
    model.config.return_dict = False
    ids = torch.tensor([[1, 2, 3]])
    with plain_outputs(model):
        assert list(model(ids)) == ["logits"]
    assert model.config.output_attentions and model.config.output_hidden_states and not model.config.return_dict
    make_plain(model.config)
    assert list(model(ids)) == ["logits"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"problem_type": "multi_label_classification", "num_labels": 3}, "problem_type .* is multi_label"),
        ({"problem_type": "regression", "num_labels": 3}, "problem_type .* is regression"),
        ({"num_labels": 1}, "it has 1 label"),
    ],
)
def test_classifiers_of_other_problems_are_refused(entries: dict[str, Any], said: str) -> None:
    refuse_other_problem(tf.BertConfig(num_labels=2, problem_type="single_label_classification"), "teacher x")
    with pytest.raises(UserError, match=f"teacher x: .*{said}"):
        refuse_other_problem(tf.BertConfig(**entries), "teacher x")
