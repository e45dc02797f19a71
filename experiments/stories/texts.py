"""Lets the teacher tell stories, as text to mix in: no file of stories is needed.

Run it as `python experiments/stories/texts.py runs/stories-texts`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

TEACHER = "../shared/models/stories260K"
STORIES = {"train": 6000, "test": 500}
LENGTH, BATCH = 160, 500


@torch.no_grad()
def stories(model: Any, tokenizer: Any, count: int) -> list[str]:
    """Sample stories, each from its beginning, at temperature 1."""
    start, told = torch.full((BATCH, 1), tokenizer.bos_token_id), list[str]()
    while len(told) < count:
        ids = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            do_sample=True,
            top_k=0,
            max_new_tokens=LENGTH,
            pad_token_id=tokenizer.eos_token_id,
        )
        told += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return told[:count]


def main() -> None:
    """Write a file of stories for each split."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(TEACHER, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    torch.manual_seed(0)
    for split, count in STORIES.items():
        Dataset.from_dict({"text": stories(model, tokenizer, count)}).to_parquet(folder / f"{split}.parquet")
        print(f"{split}: {count:,} stories")


if __name__ == "__main__":
    main()
