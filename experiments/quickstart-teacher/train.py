"""Makes the embedded quickstart teacher: a small masked LM for English documentation text.

A larger BERT masked LM has its vocabulary trimmed, and is adapted to the documentation that comes
with Python. It is then cut to half its width (principal components of its residual stream, its
strongest attention heads and feed-forward neurons), and distilled into the cut model.
"""

import argparse
import hashlib
import json
import logging
import math
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from iit_toolkit.data.python_docs import python_documentation_splits

log = logging.getLogger("quickstart-teacher")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNK, CLS, SEP, MASK = 1, 2, 3, 4
LAYERS, WIDTH, HEADS, HEAD_WIDTH, NEURONS = 6, 192, 6, 32, 768
Batch = tuple[Tensor, Tensor, Tensor]  # ids, masked ids, flat positions to predict
DOCS, WIKI = "python_documentation", "wikipedia"


def trim_tokenizer(source: Path, target: Path, texts: list[list[str]], size: int) -> Tensor:
    """Write a tokenizer with the most frequent wordpieces; return the old id of each new id."""
    content = json.loads((source / "tokenizer.json").read_text())
    old = content["model"]["vocab"]
    weight: Counter[int] = Counter()
    for group in texts:  # every group of texts counts alike, whatever its size
        counts = Counter(token for ids in AutoTokenizer.from_pretrained(source)(group)["input_ids"] for token in ids)
        weight.update({token: count / counts.total() for token, count in counts.items()})
    letters = [chr(code) for code in range(33, 127)]
    pieces = [piece for char in letters for piece in (char, f"##{char}") if piece in old]
    ranked = sorted((piece for piece in old if old[piece] in weight), key=lambda piece: -weight[old[piece]])
    chosen = list(dict.fromkeys([*SPECIAL, *pieces, *ranked]))[:size]
    content["model"]["vocab"] = {piece: index for index, piece in enumerate(chosen)}
    for token in content["added_tokens"]:
        token["id"] = chosen.index(token["content"])
    for name, token in content["post_processor"]["special_tokens"].items():
        token["ids"] = [chosen.index(name)]
    settings = json.loads((source / "tokenizer_config.json").read_text()) | {"model_max_length": 128}
    settings = {key: value for key, value in settings.items() if key not in ("is_local", "local_files_only")}
    target.mkdir(parents=True, exist_ok=True)
    (target / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return torch.tensor([old[piece] for piece in chosen])


def encode(tokenizer: Path, texts: list[str]) -> Tensor:
    """Return all texts as one stream of token ids, each text followed by [SEP]."""
    backend = AutoTokenizer.from_pretrained(tokenizer).backend_tokenizer
    parts: list[Tensor] = []
    for start in range(0, len(texts), 64):  # in small groups: the ids of all texts as lists are large
        encoded = backend.encode_batch_fast(texts[start : start + 64], add_special_tokens=False)
        parts += [torch.tensor([*text.ids, SEP]) for text in encoded]
    return torch.cat(parts)


def pack(stream: Tensor, starts: Tensor, length: int) -> Tensor:
    """Cut sequences [CLS] ... [SEP] of a length out of a stream."""
    body = stream[starts[:, None] + torch.arange(length - 2)]
    edge = torch.ones(len(body), 1, dtype=torch.long)
    return torch.cat([edge * CLS, body, edge * SEP], dim=1)


def mask(ids: Tensor, rate: float, vocabulary: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mask a fixed share of the tokens (80 % [MASK], 10 % random, 10 % kept).

    Returns:
        The changed ids and the flat positions to predict.
    """
    score = torch.rand(ids.shape, generator=generator).masked_fill(ids <= MASK, -1.0).flatten()
    positions = score.topk(round(rate * ids.numel())).indices
    kind = torch.rand(len(positions), generator=generator)
    noise = torch.randint(len(SPECIAL), vocabulary, positions.shape, generator=generator)
    changed = ids.flatten().clone()
    kept = torch.where(kind < 0.9, noise, changed[positions])
    changed[positions] = torch.where(kind < 0.8, MASK, kept)
    return changed.view_as(ids), positions


def run(model: BertForMaskedLM, ids: Tensor, positions: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the logits at flat positions and all hidden states."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.bert(ids, output_hidden_states=True).hidden_states
        return model.cls(hidden[-1].flatten(0, 1)[positions]), hidden


@torch.no_grad()
def evaluate(model: BertForMaskedLM, stream: Tensor, unigram: Tensor, sequences: int) -> dict[str, float]:
    """Measure perplexity and accuracy (15 % masked) beside a unigram model on the same tokens."""
    model.eval()
    generator = torch.Generator().manual_seed(1)
    starts = torch.arange(0, len(stream) - 126, 126)
    ids = pack(stream, starts[:: math.ceil(len(starts) / sequences)], 128)
    loss, base, hits, base_hits, count = 0.0, 0.0, 0, 0, 0
    for batch in ids.split(32):
        changed, positions = mask(batch, 0.15, len(unigram), generator)
        labels = batch.flatten()[positions]
        logits = run(model, changed, positions)[0].float()
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
        base -= unigram[labels].log().sum().item()
        hits += int((logits.argmax(-1) == labels).sum())
        base_hits += int((labels == unigram.argmax()).sum())
        count += len(labels)
    return {
        "perplexity": round(math.exp(loss / count), 2),
        "masked_accuracy": round(hits / count, 4),
        "unigram_perplexity": round(math.exp(base / count), 2),
        "unigram_accuracy": round(base_hits / count, 4),
        "masked_tokens": count,
    }


def batches(streams: list[Tensor], share: float, rate: float, size: int, seed: int) -> Iterator[Batch]:
    """Yield batches of 1,024 tokens; a share of the sequences is of the first stream."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        length = (64, 128)[int(torch.randint(2, (1,), generator=generator))]
        rows = 1024 // length
        counts = round(share * rows), rows - round(share * rows)
        starts = [
            torch.randint(len(stream) - length, (count,), generator=generator)
            for stream, count in zip(streams, counts, strict=True)
        ]
        ids = torch.cat([pack(*pair, length) for pair in zip(streams, starts, strict=True)])
        yield ids, *mask(ids, rate, size, generator)


def train(
    modules: list[nn.Module],
    data: Iterator[Batch],
    loss_of: Callable[[Batch, float], Tensor],
    rate: float,
    minutes: float,
    checkpoint: Callable[[], None],
) -> int:
    """Train for a set time, with warmup and linear decay over it; return the number of tokens."""
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    start, tokens, saved, steps = time.monotonic(), 0, 0, 0
    while (progress := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, 0.01 + progress / 0.05, (1 - progress) / 0.9)
        batch = next(data)
        loss = loss_of(batch, progress)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens, steps = tokens + batch[0].numel(), steps + 1
        if steps % 100 == 0:
            log.info("%.0f %%, %d tokens, loss %.3f", 100 * progress, tokens, loss.item())
        if int(progress * minutes / 8) > saved:
            saved += 1
            checkpoint()
    return tokens


@torch.no_grad()
def cut(teacher: BertForMaskedLM, data: Iterator[Batch]) -> tuple[BertForMaskedLM, Tensor]:
    """Cut a masked LM to the student's width; return it and the basis of its residual stream."""
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        flow = inputs[0].float().flatten(0, -2), output.float().flatten(0, -2)
        seen.setdefault(module, []).append(flow)

    watched = [m for m in teacher.modules() if isinstance(m, nn.LayerNorm | nn.Linear)]
    hooks = [module.register_forward_hook(watch) for module in watched]
    for _ in range(20):
        _, changed, positions = next(data)
        run(teacher.eval(), changed, positions)
    for hook in hooks:
        hook.remove()
    flows = {m: tuple(torch.cat(part) for part in zip(*pairs, strict=True)) for m, pairs in seen.items()}
    norms = [m for m in watched if isinstance(m, nn.LayerNorm)][:-1]
    moment = sum(y.T @ y / y.square().sum() for _, y in (flows[m] for m in norms))
    basis = torch.linalg.eigh(moment).eigenvectors[:, -WIDTH:]
    basis = basis @ nn.init.orthogonal_(torch.empty(WIDTH, WIDTH))  # spreads the variance evenly
    sizes = {"hidden_size": WIDTH, "intermediate_size": NEURONS, "num_attention_heads": HEADS}
    sizes |= {"vocab_size": teacher.config.vocab_size, "num_hidden_layers": LAYERS}
    student = BertForMaskedLM(BertConfig(**sizes, max_position_embeddings=128))
    small = student.bert.embeddings
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        weight = getattr(teacher.bert.embeddings, table).weight
        target = getattr(small, table).weight
        target.copy_((weight @ basis)[: len(target)])
    student.cls.predictions.bias.copy_(teacher.cls.predictions.bias)

    def fit_norm(new: nn.LayerNorm, before: Tensor, after: Tensor) -> None:
        x = functional.layer_norm(before, (WIDTH,))
        centred = x - x.mean(0)
        new.weight.copy_((centred * (after - after.mean(0))).mean(0) / centred.square().mean(0))
        new.bias.copy_(after.mean(0) - new.weight * x.mean(0))

    def narrow(norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        return flows[norm][0] @ basis, flows[norm][1] @ basis

    def ridge(x: Tensor, y: Tensor) -> Tensor:
        gram = x.T @ x
        gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram))
        return torch.linalg.solve(gram, x.T @ y).T

    def keep(old: nn.Linear, new: nn.Linear, rows: Tensor) -> None:
        new.weight.copy_(old.weight[rows] @ basis)
        new.bias.copy_(old.bias[rows])

    def fit_output(old: nn.Linear, new: nn.Linear, group: int) -> Tensor:
        x, y = flows[old]
        power = x.square().mean(0) * old.weight.square().sum(0)
        best = power.view(-1, group).sum(1).topk(new.in_features // group).indices.sort().values
        rows = (best[:, None] * group + torch.arange(group)).flatten()
        inputs = torch.cat([x[:, rows], torch.ones(len(x), 1)], dim=1)
        solution = ridge(inputs, y @ basis)
        new.weight.copy_(solution[:, :-1])
        new.bias.copy_(solution[:, -1])
        return rows

    fit_norm(small.LayerNorm, *narrow(teacher.bert.embeddings.LayerNorm))
    for old, new in zip(teacher.bert.encoder.layer, student.bert.encoder.layer, strict=True):
        rows = fit_output(old.attention.output.dense, new.attention.output.dense, HEAD_WIDTH)
        for part in ("query", "key", "value"):
            keep(getattr(old.attention.self, part), getattr(new.attention.self, part), rows)
        rows = fit_output(old.output.dense, new.output.dense, 1)
        keep(old.intermediate.dense, new.intermediate.dense, rows)
        fit_norm(new.attention.output.LayerNorm, *narrow(old.attention.output.LayerNorm))
        fit_norm(new.output.LayerNorm, *narrow(old.output.LayerNorm))
    old, new = teacher.cls.predictions.transform, student.cls.predictions.transform
    x, y = flows[old.dense][0] @ basis, flows[old.LayerNorm][1] @ basis
    linear = ridge(x, y)  # the head starts in the linear range of its activation
    linear /= (x @ linear.T).std(0)[:, None]
    new.dense.weight.copy_(linear)
    new.dense.bias.copy_(2 - (x @ linear.T).mean(0))
    fit_norm(new.LayerNorm, functional.gelu(new.dense(x)), y)
    return student, basis


def save(model: BertForMaskedLM, folder: Path) -> None:
    """Write the float16 weights and the configuration, each file in one move."""
    part = folder / "part"
    halved = BertForMaskedLM(model.config).half()
    halved.load_state_dict(model.state_dict())
    halved.save_pretrained(part)
    for file in ("config.json", "model.safetensors"):
        (part / file).chmod(0o644)
        os.replace(part / file, folder / file)
    shutil.rmtree(part)


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--wikipedia",
        type=Path,
        required=True,
        help="folder with {train,validation}.parquet, column text",
    )
    parser.add_argument("--big-teacher", type=Path, required=True, help="folder of a BERT masked LM with 6 blocks")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--results", type=Path, required=True, help="file of the figures")
    parser.add_argument("--vocabulary", type=int, default=5000)
    parser.add_argument("--adapt-minutes", type=float, default=8.0)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--documentation-share", type=float, default=0.5)
    parser.add_argument("--mask-rate", type=float, default=0.2, help="in training; 0.15 in evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hardware", default=platform.machine(), help="noted in the results")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    began = time.monotonic()

    texts = {f"{DOCS}/{split}": texts for split, texts in python_documentation_splits().items()}
    for split in ("train", "validation"):
        table = Dataset.from_parquet(str(arguments.wikipedia / f"{split}.parquet"))
        texts[f"{WIKI}/{split}"] = list(table["text"])
    sample = [texts[f"{DOCS}/train"], texts[f"{WIKI}/train"][::8]]
    old_ids = trim_tokenizer(arguments.big_teacher, arguments.output, sample, arguments.vocabulary)
    size = len(old_ids)
    streams = {name: encode(arguments.output, group) for name, group in texts.items()}
    log.info("tokens: %s", {name: len(stream) for name, stream in streams.items()})
    both = [streams[f"{name}/train"] for name in (DOCS, WIKI)]
    counts = [torch.bincount(stream, minlength=size) + 1.0 for stream in both]
    unigrams = {name: count / count.sum() for name, count in zip((DOCS, WIKI), counts, strict=True)}

    def measure(model: BertForMaskedLM, *names: str, sequences: int = 200) -> dict[str, dict[str, float]]:
        unigram = {name: unigrams[name.split("/")[0]] for name in names}
        return {name: evaluate(model, streams[name], unigram[name], sequences) for name in names}

    def data(seed: int) -> Iterator[Batch]:
        share, rate = arguments.documentation_share, arguments.mask_rate
        return batches(both, share, rate, size, arguments.seed + seed)

    big = BertForMaskedLM.from_pretrained(arguments.big_teacher, dtype=torch.float32)
    rows = big.bert.embeddings.word_embeddings.weight[old_ids].detach()
    bias = big.cls.predictions.bias[old_ids].detach()
    big.resize_token_embeddings(size)
    big.bert.embeddings.word_embeddings.weight.data.copy_(rows)
    big.cls.predictions.bias.data.copy_(bias)
    valid = f"{DOCS}/validation"
    figures: dict[str, object] = {"big_teacher_trimmed": measure(big, valid)}

    def adapt(batch: Batch, _: float) -> Tensor:
        ids, changed, positions = batch
        logits = run(big.train(), changed, positions)[0].float()
        return functional.cross_entropy(logits, ids.flatten()[positions])

    adapted = train([big], data(1), adapt, 3e-4, arguments.adapt_minutes, lambda: None)
    figures["big_teacher_adapted"] = measure(big, valid)
    student, basis = cut(big, data(2))
    lift = nn.ModuleList(nn.Linear(WIDTH, len(basis), bias=False) for _ in range(LAYERS + 1))
    for linear in lift:
        linear.weight.data.copy_(basis)
    figures["student_after_cut"] = measure(student, valid)
    log.info("%s", figures)

    def distil(batch: Batch, progress: float) -> Tensor:
        ids, changed, positions = batch
        with torch.no_grad():
            goal, big_hidden = run(big, changed, positions)
        logits, hidden = run(student, changed, positions)
        logits, labels = logits.float(), ids.flatten()[positions]
        soft = functional.log_softmax(logits / 2, -1), functional.log_softmax(goal.float() / 2, -1)
        divergence = 4 * functional.kl_div(*soft, log_target=True, reduction="batchmean")
        pairs = [(up(h.float()), b.float()) for up, h, b in zip(lift, hidden, big_hidden, strict=True)]
        near = sum((h - b).square().mean() / b.var() for h, b in pairs)
        return (functional.cross_entropy(logits, labels) + divergence) / 2 + near * (1 - progress)

    def checkpoint() -> None:
        save(student, arguments.output)
        log.info("checkpoint: %s", measure(student, valid))

    big.eval()
    student.eval()  # no dropout: the student underfits
    tokens = train([student, lift], data(3), distil, 1e-3, arguments.minutes, checkpoint)
    save(student, arguments.output)
    final = BertForMaskedLM.from_pretrained(arguments.output, dtype=torch.float32)
    figures["teacher"] = measure(final, valid, f"{DOCS}/test", f"{WIKI}/validation", sequences=1000)
    figures |= {
        "parameters": final.num_parameters(),
        "tokens_trained": {"adapt": adapted, "distil": tokens},
        "minutes": round((time.monotonic() - began) / 60, 1),
        "hardware": arguments.hardware,
        "versions": {"python": platform.python_version()}
        | {package.__name__: package.__version__ for package in (torch, transformers)},
        "sha256": hashlib.sha256((arguments.output / "model.safetensors").read_bytes()).hexdigest(),
        "bytes": sum(file.stat().st_size for file in arguments.output.iterdir()),
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(figures, indent=2) + "\n")
    log.info("%s", figures)


if __name__ == "__main__":
    main()
