"""Makes the pairs of this experiment from SST-2: reviews with one word of praise or blame turned into its opposite.

python experiments/polarity/pairs.py runs/polarity-pairs
"""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import Dataset, load_dataset

from iit_toolkit.data.minimal_pairs import SubstitutedPairs, polarity

SST2 = Path("../shared/data/glue/sst2")
WORDS = 407
"""Reviews of `words` that are kept, so that those of `texts` are a good part of the verified ones."""


def reviews(split: str) -> Dataset:
    """Load a split of SST-2."""
    return load_dataset("parquet", data_files=str(SST2 / f"{split}.parquet"), split="train")


def main() -> None:
    """Write a file of pairs for each split, and say how many there are."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    train, validation = reviews("train"), reviews("validation")
    columns = {"text": "sentence", "label": "label"}
    made: dict[str, SubstitutedPairs] = {
        "train": polarity(train, "train", **columns, both_directions=True),
        "words": polarity(train, "words", **columns),
        "texts": polarity(validation, "words", **columns, held="texts"),
    }
    for name, pairs in made.items():
        rows = pairs.rows.shuffle(seed=0).take(WORDS) if name == "words" else pairs.rows
        rows.to_parquet(folder / f"{name}.parquet")
        print(f"{name}: {len(rows):,} of {len(pairs.rows):,} pairs; left out: {pairs.skipped}")


if __name__ == "__main__":
    main()
