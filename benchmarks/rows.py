"""How much memory rows of token ids take, from a file of short texts to what a run asks of them.

    python -m benchmarks.rows              all sizes; writes docs/rows-memory.json and the table in docs/step-cost.md
    python -m benchmarks.rows --rows 1000  one size, not written down

Each size is a process of its own. It loads a file of that many lines, cuts them into rows with the embedded teacher's
tokenizer, and describes them (counts of tokens, fingerprint). It looks for held-out rows among them, and reads batches
of them in a random order. The measure is its memory beyond what it held when all libraries were loaded: all of it, with
the pages of files that happen to be in memory, and what is its own (anonymous), which nothing can take back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.cost_page import DOCS, write_page

SIZES = (100_000, 800_000, 5_000_000)
RESULTS = DOCS / "rows-memory.json"
_WORDS = ["the", "cat", "dog", "sees", "finds", "old", "young", "red", "house", "river", "near", "by", "to", "of", "in"]
_HELD_OUT = 2_000


def measure(count: int) -> dict[str, Any]:
    """Measure one size in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for name, size, seed in (("train", count, 1), ("held-out", _HELD_OUT, 2)):
            _write(Path(folder) / f"{name}.txt", size, seed)
        command = [sys.executable, "-m", "benchmarks.rows", "--measure", folder]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def _write(path: Path, count: int, seed: int) -> None:
    """Write texts of sixteen words, a few at a time."""
    import numpy as np

    draw = np.random.default_rng(seed)
    words = np.array(_WORDS)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, count, 10_000):
            some = words[draw.integers(len(words), size=(min(10_000, count - start), 16))]
            file.writelines(" ".join(text) + "\n" for text in some)


class _Watch:
    """The most memory that this process holds, MB: all, and its own."""

    def __init__(self) -> None:
        self.before = _memory()
        self.peak = dict(self.before)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self.peak = {name: max(value, self.peak[name]) for name, value in _memory().items()}

    def stop(self) -> dict[str, float]:
        """Return what was held beyond the beginning."""
        self._done.set()
        self._thread.join()
        return {name: round(value - self.before[name], 1) for name, value in self.peak.items()}


def _memory() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    held = dict(line.split(":", 1) for line in lines)
    return {name: int(held[key].split()[0]) / 1024 for name, key in (("all", "VmRSS"), ("own", "RssAnon"))}


def print_memory(folder: Path) -> None:
    """Do what a run does with rows, and print what that held."""
    import numpy as np

    from iit_toolkit.config.loading import ASSETS
    from iit_toolkit.data.collate import MaskedLanguageCollator
    from iit_toolkit.data.pretrained import load_tokenizer
    from iit_toolkit.data.shared import count_seen
    from iit_toolkit.data.tables import count_ids
    from iit_toolkit.data.text import load_texts
    from iit_toolkit.data.tokenization import count_tokens, tokenize_corpus
    from iit_toolkit.pipeline.prepare import fingerprint_of_rows

    tokenizer = load_tokenizer(str(ASSETS / "teacher"))
    collator = MaskedLanguageCollator(tokenizer)

    def rows_of(name: str) -> Any:
        return tokenize_corpus(load_texts("text", "train", data_files=str(folder / f"{name}.txt")), tokenizer, 64)

    held_out = rows_of("held-out")
    watch, started = _Watch(), time.process_time()
    rows = rows_of("train")
    found = {
        "rows": len(rows),
        "tokens": count_ids(rows),
        "counted": int(count_tokens(rows, len(tokenizer)).sum()),
        "fingerprint": fingerprint_of_rows(rows),
        "seen": count_seen(held_out, rows),
    }
    for start in np.random.default_rng(0).integers(len(rows) - 32, size=200).tolist():
        collator([rows[(start * 7919 + index * 104_729) % len(rows)] for index in range(32)])
    print(json.dumps({**found, "mb": watch.stop(), "cpu_seconds": round(time.process_time() - started, 1)}))


def main() -> None:
    """Measure the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="one size, which is not written down")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print_memory(arguments.measure)
        return
    if arguments.rows is not None:
        print(json.dumps(measure(arguments.rows), indent=1))
        return
    from iit_toolkit.runs.provenance import provenance

    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    results: dict[str, Any] = {"created": created, "provenance": provenance(), "sizes": []}
    for count in SIZES:
        results["sizes"].append(measure(count))
        print(json.dumps(results["sizes"][-1]))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page()


if __name__ == "__main__":
    main()
