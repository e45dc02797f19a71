"""Cases of a real masked language model, as a population that samples can be drawn from.

The teacher is the model in `shared/models/minilm-mlm` beside the repository. The student has its blocks 0, 2 and 4,
without training; the control has random weights. Teacher block 1 is aligned with student block 0. Rows are cut from
Wikipedia articles in `shared/data/enwiki2015`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForMaskedLM, AutoTokenizer

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.outcomes import read_outcomes, write_outcomes
from iit_toolkit.analysis.verification.verify import verify
from iit_toolkit.data.tokenization import tokenize_corpus
from iit_toolkit.distillation.students import student_from_config, student_from_teacher

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODEL = SHARED / "models" / "minilm-mlm"
ARTICLES = SHARED / "data" / "enwiki2015" / "train.parquet"
TEXTS, ROWS, TOKENS, CHARACTERS = 500, 4, 16, 1000
CACHE = Path(tempfile.gettempdir()) / f"iit_toolkit-real-population-{TEXTS}-{ROWS}-{TOKENS}.parquet"
STUDENT, CONTROL = "s", "c"


def real_population() -> pd.DataFrame | None:
    """Return the outcomes of every pair; None if the model or the texts are missing.

    A file in the temporary folder holds them after the first run.
    """
    if not (MODEL.is_dir() and ARTICLES.is_file()):
        return None
    if not CACHE.is_file():
        write_outcomes(_verified(), CACHE)
    return read_outcomes(CACHE)


def _verified() -> pd.DataFrame:
    torch.manual_seed(0)
    teacher = AutoModelForMaskedLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    articles = load_dataset("parquet", data_files=str(ARTICLES), split=f"train[:{TEXTS}]")
    texts = Dataset.from_dict({"text": [text[:CHARACTERS] for text in articles["text"]]})
    rows = tokenize_corpus(texts, tokenizer, TOKENS, min_length=TOKENS)
    _, first, counts = np.unique(rows["text_id"], return_index=True, return_counts=True)
    kept = np.concatenate([start + np.arange(min(ROWS, count)) for start, count in zip(first, counts, strict=True)])
    students = {
        STUDENT: student_from_teacher(teacher, [0, 2, 4]),
        CONTROL: student_from_config(teacher, {"num_hidden_layers": 3}),
    }
    alignment = Alignment.pairs(early=(1, 0))
    return verify(teacher, students, alignment, rows.select(kept), tokenizer=tokenizer, pairs=len(kept)).outcomes
