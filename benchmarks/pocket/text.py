"""Train the tokenizer and text encoder of the pocket model.

The text encoder learns to *understand* captions before any picture is drawn, and is frozen afterwards, as in Stable
Diffusion: linear probes on its end-of-text state must tell every attribute that the caption names (or that it names
none), for descriptions and for 2048 names. A name is one token whose vector is free: nothing tells the encoder
that a name is a sum of attributes. The probes are thrown away.

    python -m benchmarks.pocket.text --work_dir benchmarks/work --steps 3000
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.pocket.people import (
    BACKGROUNDS,
    NUM_NAMES,
    SIZES,
    WORDS,
    caption,
    held_out_people,
    named_people,
    names,
    random_people,
    subject_caption,
)

LENGTH = 32  # tokens
BATCH = 256
EXTRA_WORDS = (  # so that everyday prompts are not spelled out letter by letter; the model knows nothing about them
    "photo drawing portrait good small cropped close up the my one cool nice clean bright dark style in rendering "
    "depiction bad weird large art dog cat mug object man woman girl boy face cup teapot rocket astronaut coin text"
).split()


def build_tokenizer(folder: Path, length: int = LENGTH) -> CLIPTokenizer:
    """Byte pairs with </w>, trained on our own captions until every word and name is one token."""
    everyone = [caption(p, i % len(BACKGROUNDS)) for i, p in enumerate(random_people(2000, np.random.default_rng(0)))]
    corpus = everyone + [word for word in (*names(), *EXTRA_WORDS) for _ in range(20)]
    return train_tokenizer(corpus, folder, length)


def train_tokenizer(corpus: list[str], folder: Path, length: int) -> CLIPTokenizer:
    """Byte pairs of some texts, written into a folder as a CLIP tokenizer of so many tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = [c + end for c in "abcdefghijklmnopqrstuvwxyz0123456789,.!?'\"-:;()&" for end in ("", "</w>")]
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        min_frequency=2,
        end_of_word_suffix="</w>",
        show_progress=False,
        initial_alphabet=[c for c in letters if len(c) == 1],
        special_tokens=[*letters, "<|startoftext|>", "<|endoftext|>"],
    )
    tokenizer.train_from_iterator(corpus, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    clip = CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=length,
        unk_token="<|endoftext|>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    clip.save_pretrained(folder)
    return clip


def build_text_encoder(tokenizer: CLIPTokenizer, width: int = 128, length: int = LENGTH) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=2,
            num_attention_heads=width // 32,
            max_position_embeddings=length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            hidden_act="gelu",
            projection_dim=width,
        )
    )


class Captioner:
    """Random captions of given people as token ids, from a cache of word ids (tokenizing is the slow part)."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        words = {w for values in WORDS.values() for w in values} | set(BACKGROUNDS) | set(names())
        words |= {"a", "picture", "of", "person", "with", "hair", "skin", "glasses", "shirt", "on", "background", ","}
        self.ids = {}
        for word in sorted(words):
            pieces = tokenizer(word, add_special_tokens=False).input_ids
            if len(pieces) != 1:
                raise ValueError(f"{word!r} makes {len(pieces)} tokens, one is needed")
            self.ids[word] = pieces[0]
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        ids = [self.ids[w] for w in text.replace(",", " ,").split()]
        return [self.bos, *ids, *[self.eos] * (LENGTH - 1 - len(ids))]

    def sample(
        self, people: np.ndarray, backgrounds: np.ndarray, name_ids: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Caption each picture. A person with name id >= 0 is named half of the time, else described.

        Returns:
            ids (N, LENGTH) int64 and labels (N, 7): the value of each attribute and the background, or the number of
            its values where the caption does not say.
        """
        ids, labels = [], []
        for person, background, name in zip(people, backgrounds, name_ids, strict=True):
            where = int(background) if rng.random() < 0.85 else None
            if name >= 0 and rng.random() < 0.7:
                text, mention = subject_caption(names()[name], where), np.ones(6, bool)
            else:
                mention = rng.random(6) < (1.0 if rng.random() < 0.4 else rng.random())
                text = caption(person, where, mention)
            ids.append(self.encode(text))
            said = [int(v) if m else size for v, m, size in zip(person, mention, SIZES, strict=True)]
            labels.append([*said, len(BACKGROUNDS) if where is None else where])
        return np.array(ids), np.array(labels)


def hidden_at_eos(encoder: CLIPTextModel, ids: torch.Tensor) -> torch.Tensor:
    hidden = encoder(input_ids=ids).last_hidden_state  # (N, T, D)
    return hidden[torch.arange(len(ids)), (ids == ids[0, -1]).int().argmax(1)]


def train(
    tokenizer: CLIPTokenizer, steps: int, seed: int = 0, width: int = 128, batch: int = BATCH
) -> tuple[CLIPTextModel, torch.nn.ModuleList]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder, captioner = build_text_encoder(tokenizer, width), Captioner(tokenizer)
    probes = torch.nn.ModuleList(torch.nn.Linear(width, size + 1) for size in (*SIZES, len(BACKGROUNDS)))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *probes.parameters()], lr=2e-3, weight_decay=0.02)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, step / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        name_ids = np.where(rng.random(batch) < 0.6, rng.integers(NUM_NAMES, size=batch), -1)
        people = np.where(name_ids[:, None] >= 0, named_people()[name_ids], random_people(batch, rng))
        ids, labels = captioner.sample(people, rng.integers(len(BACKGROUNDS), size=batch), name_ids, rng)
        with torch.autocast("cpu", torch.bfloat16):
            state = hidden_at_eos(encoder, torch.from_numpy(ids)).float()
        labels = torch.from_numpy(labels)
        losses = [F.cross_entropy(probe(state), labels[:, i]) for i, probe in enumerate(probes)]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0 or step == steps - 1:
            right = [(probe(state).argmax(1) == labels[:, i]).float().mean().item() for i, probe in enumerate(probes)]
            print(
                f"text step {step} loss {sum(losses).item():.4f} right " + " ".join(f"{r:.3f}" for r in right),
                flush=True,
            )
    return encoder.eval(), probes


def reachable(encoder: CLIPTextModel, probes: torch.nn.ModuleList, captioner: Captioner, person_id: int) -> float:
    """Share of attributes right when one free vector per held-out person is fitted through the frozen encoder."""
    subjects = torch.from_numpy(held_out_people())
    table = encoder.get_input_embeddings().weight.detach()
    rows = table[person_id].repeat(len(subjects), 1).requires_grad_()
    ids = torch.tensor([captioner.encode("a picture of person")] * len(subjects))
    where = (ids == person_id)[..., None]
    optimizer = torch.optim.Adam([rows], lr=0.02)
    hook = encoder.get_input_embeddings().register_forward_hook(
        lambda _m, _i, out: torch.where(where, rows[:, None], out)
    )
    for _ in range(300):
        state = hidden_at_eos(encoder, ids)
        logits = [probe(state) for probe in probes][:6]
        optimizer.zero_grad()
        sum(F.cross_entropy(logit, subjects[:, i]) for i, logit in enumerate(logits)).backward()
        optimizer.step()
    hook.remove()
    return float(np.mean([(logit.argmax(1) == subjects[:, i]).float().mean().item() for i, logit in enumerate(logits)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    tokenizer = build_tokenizer(args.work_dir / "tokenizer")
    captioner = Captioner(tokenizer)
    print(f"vocabulary {len(tokenizer)} tokens")
    encoder, probes = train(tokenizer, args.steps)
    print(
        f"held-out people reachable by one vector: {reachable(encoder, probes, captioner, captioner.ids['person']):.3f}"
    )
    rows = encoder.get_input_embeddings().weight[[captioner.ids[n] for n in names()]]
    print(f"name rows: sd per dimension {rows.std(0).mean():.4f}, norm {rows.norm(dim=1).mean():.3f}")
    encoder.save_pretrained(args.work_dir / "text_encoder")


if __name__ == "__main__":
    main()
