from __future__ import annotations

import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

ROOT = Path(__file__).parents[2]
TEACHER = ROOT / "iit_toolkit" / "assets" / "teacher"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def words_of(*tokens: str) -> PreTrainedTokenizerFast:
    """A tokenizer that knows exactly these words, with BERT's special tokens first."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *tokens])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


@pytest.fixture(scope="session")
def tiny() -> PreTrainedTokenizerFast:
    """Ids 5 to 104 are w0 to w99."""
    return words_of(*(f"w{index}" for index in range(100)))


@pytest.fixture(scope="session")
def causal() -> PreTrainedTokenizerFast:
    """A tokenizer as GPT-2 has it: one special token, no padding, no mask."""
    vocabulary = {"<|endoftext|>": 0} | {f"w{index}": index + 1 for index in range(100)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=64
    )


@pytest.fixture(scope="session")
def teacher() -> PreTrainedTokenizerBase:
    """The tokenizer of the embedded teacher."""
    return AutoTokenizer.from_pretrained(TEACHER)


@pytest.fixture(scope="session", params=["tiny", "teacher"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that the project does not contain; IIT_SHARED names the folder that holds `data/`."""
    folder = Path(os.environ.get("IIT_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("no real data beside the checkout (IIT_SHARED names their folder)")
    return folder
