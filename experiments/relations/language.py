"""Makes a small language in which something follows from one of two nouns, and a Llama that has learned it.

    python experiments/relations/language.py runs/relations-language

*The doctor near the farmer works at the hospital .* Who works is the doctor: the farmer is only said to be near. A
model has to find the noun that it is about, by the words around, and to know what follows from it. Words are tokens.
The folder gets texts to read (`text-train`, `text-test`), pairs that differ in one noun (`train`, `words`,
`templates`), the teacher, and a GPT-2 of random weights that reads the same words. The teacher has read everything.
Students never read two held-out nouns together, and all test texts and test pairs have two.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Relation:
    """What follows from a noun.

    Attributes:
        subject: How the noun is told that it is about; `{}` is the noun.
        other: How the other noun is told.
        follows: What follows; `{}` is the value.
        words: The nouns, by value.
    """

    subject: str
    other: str
    follows: str
    words: Mapping[str, Sequence[str]]


RELATIONS = {
    "languages": Relation(
        "the guest from {}",
        "in {}",
        "speaks {}",
        {
            "Italian": ("Rome", "Milan", "Naples", "Turin", "Genoa"),
            "German": ("Berlin", "Hamburg", "Vienna", "Munich", "Cologne"),
            "French": ("Paris", "Lyon", "Nantes", "Lille", "Dijon"),
            "Spanish": ("Madrid", "Bilbao", "Seville", "Lima", "Bogota"),
            "Polish": ("Warsaw", "Krakow", "Poznan", "Gdansk", "Lublin"),
            "Greek": ("Athens", "Patras", "Sparta", "Corinth", "Volos"),
            "Dutch": ("Utrecht", "Delft", "Leiden", "Breda", "Arnhem"),
            "Turkish": ("Ankara", "Izmir", "Bursa", "Konya", "Adana"),
        },
    ),
    "places": Relation(
        "the {}",
        "near the {}",
        "works at the {}",
        {
            "school": ("teacher", "tutor", "pupil", "headmaster", "librarian"),
            "hospital": ("doctor", "nurse", "surgeon", "midwife", "dentist"),
            "court": ("judge", "lawyer", "clerk", "bailiff", "juror"),
            "church": ("priest", "bishop", "vicar", "deacon", "sexton"),
            "restaurant": ("waiter", "cook", "chef", "barman", "dishwasher"),
            "harbour": ("sailor", "captain", "docker", "pilot", "boatman"),
            "theatre": ("actor", "singer", "dancer", "director", "usher"),
            "farm": ("farmer", "shepherd", "milkmaid", "ploughman", "herdsman"),
        },
    ),
    "kinds": Relation(
        "the {}",
        "beside the {}",
        "belong to {}",
        {
            "fruit": ("apples", "pears", "plums", "cherries", "grapes"),
            "vegetables": ("carrots", "onions", "leeks", "beans", "spinach"),
            "fish": ("trout", "salmon", "herring", "cod", "tuna"),
            "meat": ("beef", "pork", "lamb", "veal", "ham"),
            "cheese": ("cheddar", "gouda", "brie", "feta", "edam"),
            "drinks": ("tea", "coffee", "milk", "juice", "lemonade"),
            "sweets": ("fudge", "toffee", "candy", "marzipan", "nougat"),
            "bread": ("rye", "toast", "rolls", "bagels", "buns"),
        },
    ),
}
HELD_OUT = 1
"""So many words of each value, the last ones, are in no pair for training."""
TEMPLATES = {
    "train": ("{subject} {other} {follows} .", "{other} {subject} {follows} .", "today {subject} {other} {follows} ."),
    "templates": ("we know that {other} {subject} {follows} .", "it seems that {subject} , {other} , {follows} ."),
}
"""Texts to read have all of them."""
READ, TEXTS = 60_000, {"text-train": 40_000, "text-test": 500}
PAIRS = {"train": 6000, "words": 400, "templates": 400}
WIDTH, BLOCKS, HEADS = 64, 4, 4
STEPS, BATCH, LEARNING_RATE = 3000, 64, 2e-3
IGNORED = -100


def told(template: str, name: str, subject: str, other: str) -> str:
    """Return a text about two nouns of a relation."""
    relation = RELATIONS[name]
    return template.format(
        subject=relation.subject.format(subject),
        other=relation.other.format(other),
        follows=relation.follows.format(value_of(relation, subject)),
    )


def value_of(relation: Relation, word: str) -> str:
    """Return what follows from a noun."""
    return next(value for value, words in relation.words.items() if word in words)


def nouns(draw: random.Random, relation: Relation, count: int, *, held_out: bool | None) -> list[str]:
    """Return nouns from which different things follow: held out ones, those of training pairs, or any (`None`)."""
    parts = {None: slice(None), True: slice(-HELD_OUT, None), False: slice(None, -HELD_OUT)}
    values = draw.sample(list(relation.words), count)
    return [draw.choice(relation.words[value][parts[held_out]]) for value in values]


def texts(count: int, seed: int, *, held_out: bool | None = None) -> list[str]:
    """Return texts in all templates.

    Args:
        count: How many.
        seed: Draws them.
        held_out: True: both nouns are held out. False: one of them at most. None: all nouns.
    """
    draw, found = random.Random(seed), list[str]()
    every = [template for templates in TEMPLATES.values() for template in templates]
    while len(found) < count:
        name = draw.choice(list(RELATIONS))
        both = nouns(draw, RELATIONS[name], 2, held_out=True if held_out else None)
        if held_out is not False or not all(is_held_out(RELATIONS[name], noun) for noun in both):
            found.append(told(draw.choice(every), name, *both))
    return found


def is_held_out(relation: Relation, noun: str) -> bool:
    """Return whether a noun is in no training pair."""
    return noun in relation.words[value_of(relation, noun)][-HELD_OUT:]


def pairs(split: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Return pairs: the source is about another noun, from which something else follows.

    Args:
        split: `train`, `words` (held-out nouns) or `templates` (held-out nouns and templates).
        count: How many.
        seed: Draws them.
    """
    draw, found = random.Random(seed), list[dict[str, Any]]()
    for _ in range(count):
        name = draw.choice(list(RELATIONS))
        template = draw.choice(TEMPLATES["templates" if split == "templates" else "train"])
        base, source, other = nouns(draw, RELATIONS[name], 3, held_out=split != "train")
        row: dict[str, Any] = {"family": name if split == "train" else f"{name}, {split}"}
        for prefix, column, subject in (("", "text", base), ("source_", "source", source)):
            whole = told(template, name, subject, other)
            row |= {
                column: whole,
                f"{prefix}span": _place(whole, subject),
                f"{prefix}answer": _place(whole, value_of(RELATIONS[name], subject)),
            }
        found.append(row)
    return found


def _place(whole: str, word: str) -> list[int]:
    """Return where a word is, [start, end]; a text has each of them once."""
    padded = f" {whole} "
    assert padded.count(f" {word} ") == 1, (whole, word)
    start = padded.index(f" {word} ")
    return [start, start + len(word)]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the words of the language."""
    some = texts(20_000, 1)
    words = sorted({word for one in some for word in one.split()})
    vocabulary = {word: place for place, word in enumerate(["<pad>", "<start>", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A", special_tokens=[("<start>", vocabulary["<start>"])]
    )  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<start>")


def teacher(reads: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a Llama that has learned the language; what follows counts as much as all words."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(reads), max_position_embeddings=32, hidden_size=WIDTH, intermediate_size=3 * WIDTH,
        num_hidden_layers=BLOCKS, num_attention_heads=HEADS, num_key_value_heads=HEADS, initializer_range=0.1,
        bos_token_id=reads.bos_token_id, eos_token_id=None, pad_token_id=reads.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    encoded = reads(texts(READ, 2), padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    labels = ids.masked_fill(mask == 0, IGNORED)
    values = reads.convert_tokens_to_ids([value for relation in RELATIONS.values() for value in relation.words])
    follows = torch.isin(ids, torch.tensor(values))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    model.train()
    for step in range(STEPS):
        rows = torch.randint(len(ids), (BATCH,))
        logits = model(ids[rows], attention_mask=mask[rows]).logits[:, :-1].flatten(0, 1)
        every = cross_entropy(logits, labels[rows, 1:].flatten(), ignore_index=IGNORED)
        chosen = follows[rows, 1:].flatten()
        answers = cross_entropy(logits[chosen], ids[rows, 1:].flatten()[chosen])
        optimizer.zero_grad()
        (every + answers).backward()
        optimizer.step()
        schedule.step()
        if not (step + 1) % 250:
            print(f"step {step + 1:,}: loss {every.item():.3f}, of what follows {answers.item():.3f}", flush=True)
    return model.eval()


def other_family(reads: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """Return a GPT-2 of two blocks and random weights."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(reads), n_positions=32, n_embd=WIDTH, n_layer=2, n_head=HEADS, initializer_range=0.1,
        bos_token_id=reads.bos_token_id, eos_token_id=None, pad_token_id=reads.pad_token_id,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def main() -> None:
    """Write texts, pairs and teacher to a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate(TEXTS.items(), 10):
        read = texts(count, seed, held_out=split == "text-test")
        Dataset.from_dict({"text": read}).to_parquet(folder / f"{split}.parquet")
    for seed, (split, count) in enumerate(PAIRS.items(), 20):
        Dataset.from_list(pairs(split, count, seed)).to_parquet(folder / f"{split}.parquet")
    reads = tokenizer()
    for name, model in (("teacher", teacher(reads)), ("gpt2", other_family(reads))):
        model.save_pretrained(folder / name)
        reads.save_pretrained(folder / name)


if __name__ == "__main__":
    main()
