#!/usr/bin/env python3
"""Writes fixtures/: small tokenizer definitions of every supported kind, and what the reference makes of some lines.

    python3 -m venv VENV && VENV/bin/pip install tokenizers==0.23.3 && VENV/bin/python generate.py

The models are trained here on corpus.py. Each fixture is {"kind": "json" or "gguf", "definition": ..., "added": spellings of
the added tokens, "cases": [[line number, parse_special, add_special, ids, shown, plain], ...]}; the lines are in
fixtures/lines.json. `shown` and `plain` are the reference's decoding with and without special tokens.
"""
import copy
import json
import pathlib

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import corpus
import steps

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
OUT = pathlib.Path(__file__).parent / "fixtures"
LINES = 240
SPECIAL = ["<|im_start|>", "<|im_end|>", "<think>", "<s>", "</s>", "<mask>", "word", "ộk", "<wide>"]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPLITS = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
# Escapes that mean something else in PCRE2, case folding, anchors, look-around.
ODD = r"\u3042[\u3040-\u309f]*|(?i:the|ka|ok)+|^\w+$|(?<=\S)\t+|[\w\-]+|[^\S\n]+|\x{2d}+"
TRAINING = [s for group in corpus.SENTENCES.values() for s in group] * 3


def byte_level(prefix=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": False, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(name, *steps):
    return {"type": "Sequence", name: list(steps)}


def added(first, *tokens):
    """(content, flags): flags of n normalized, s special, w single_word, l lstrip, r rstrip."""
    return [{"id": first + i, "content": content, "single_word": "w" in flags, "lstrip": "l" in flags, "rstrip": "r" in flags,
             "normalized": "n" in flags, "special": "s" in flags} for i, (content, flags) in enumerate(tokens)]


CHAT = [("<|im_start|>", "s"), ("<|im_end|>", "s"), ("<think>", "")]
FLAGS = [*CHAT, ("<mask>", "sl"), ("word", "w"), ("ộk", "n"), ("<wide>", "lr"), ("</s>", "sr"), ("<s>", "sn")]


def bos(name, token):
    piece = {"SpecialToken": {"id": name, "type_id": 0}}
    a, b = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {"type": "TemplateProcessing", "single": [piece, a], "pair": [piece, a, b],
            "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]}}}


def trained_bytes(size):
    """(vocab, merges) of a byte-level model."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                                            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    model = json.loads(model.to_str())["model"]
    return model["vocab"], model["merges"]


def trained_pieces(size, bytes_too, spaces=True):
    """(vocab, merges, scores) of a SentencePiece-style model: merges are all cuts of all pieces, by rank of the piece."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    model.train_from_iterator([s for s in TRAINING if all(ord(c) < 0x500 for c in s)],
                              trainers.BpeTrainer(vocab_size=size, show_progress=False))
    trained = json.loads(model.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if bytes_too else [])
    merged = ["".join(m) for m in trained["merges"]] + (["▁▁", "▁▁▁▁", "\n\n"] if spaces else [])
    letters = sorted(set("".join(merged)) | set("".join(s for s in TRAINING[:6])) - {" "})
    merged = list(dict.fromkeys(merged))
    vocab = {p: i for i, p in enumerate(dict.fromkeys(pieces + merged + letters))}
    merges = []
    for piece in merged:
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += sorted(cuts, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    scores = [0.0] * len(vocab)
    for rank, piece in enumerate(merged):
        scores[vocab[piece]] = -float(rank)
    for letter in letters:
        scores[vocab[letter]] = -1e6
    return vocab, [list(m) for m in merges], scores


def definition(vocab, merges, *, tokens=(), normalizer=None, pre=None, post=None, decoder=None, **model):
    base = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens), "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": post, "decoder": decoder,
            "model": {**base, **model, "vocab": vocab, "merges": merges}}


def gguf(source, model, pre, scores=None, **more):
    tokens = {i: t for t, i in source["model"]["vocab"].items()}
    kinds = {i: 6 if len(t) == 6 and t.startswith("<0x") else 1 for i, t in tokens.items()} if scores else {i: 1 for i in tokens}
    for token in source["added_tokens"]:
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = (2 if token["content"] == "<unk>" else 3) if token["special"] else 4
    ids = range(len(tokens))
    result = {"model": model, "pre": pre, "tokens": [tokens[i] for i in ids], "token_types": [kinds[i] for i in ids], **more}
    if scores:
        result["scores"] = scores + [0.0] * (len(tokens) - len(scores))
    else:
        result["merges"] = [" ".join(m) for m in source["model"]["merges"]]
    return result


def definitions():
    """name -> (definition for the reference, GGUF description or None)"""
    vocab, merges = trained_bytes(460)
    n = len(vocab)
    strings = [" ".join(m) for m in merges]
    tail = dict(decoder=byte_level(), post=byte_level())
    result = {}

    qwen2 = definition(vocab, merges, tokens=added(n, *CHAT), normalizer={"type": "NFC"},
                       pre=sequence("pretokenizers", split(SPLITS["qwen2"]), byte_level()), **tail)
    result["qwen2"] = qwen2, None
    result["qwen2-gguf"] = qwen2, gguf(qwen2, "gpt2", "qwen2", bos_token_id=n, add_bos_token=False)
    qwen35 = copy.deepcopy(qwen2)
    qwen35["pre_tokenizer"]["pretokenizers"][0] = split(SPLITS["qwen35"])
    qwen35["normalizer"] = None
    result["qwen35-gguf"] = qwen35, gguf(qwen35, "gpt2", "qwen35")

    # ignore_merges shows where a token exists that no merge leads to.
    odd_vocab = {**vocab, "Ġsaid": n, "Ġremembering": n + 1}
    llama3 = definition(odd_vocab, strings, tokens=added(n + 2, *CHAT, ("<s>", "s")), ignore_merges=True,
                        pre=sequence("pretokenizers", split(SPLITS["llama3"]), byte_level()), decoder=byte_level(True, True),
                        post=sequence("processors", byte_level(True, True), bos("<s>", n + 5)))
    result["llama3"] = llama3, None
    pairs = copy.deepcopy(llama3)
    pairs["model"]["merges"] = merges
    result["llama3-gguf"] = llama3, gguf(pairs, "gpt2", "llama-bpe", bos_token_id=n + 5)
    tekken = copy.deepcopy(pairs)
    tekken["pre_tokenizer"]["pretokenizers"][0] = split(SPLITS["tekken"])
    result["tekken-gguf"] = tekken, gguf(tekken, "gpt2", "tekken", bos_token_id=n + 5)

    digits = {"type": "Digits", "individual_digits": True}
    # SmolLM2's special tokens are part of the vocabulary.
    smollm_vocab = {"<|im_start|>": 0, "<|im_end|>": 1, **{t: i + 2 for t, i in vocab.items()}}
    smollm = definition(smollm_vocab, merges, tokens=added(0, *CHAT[:2]), decoder=byte_level(True, True),
                        pre=sequence("pretokenizers", digits, byte_level(False, True)))
    result["smollm"] = smollm, None
    result["smollm-gguf"] = smollm, gguf(smollm, "gpt2", "smollm", bos_token_id=0, add_bos_token=False, add_space_prefix=False)
    gpt2 = definition(vocab, strings, tokens=added(n, *CHAT), pre=byte_level(False, True), **tail)
    result["gpt2-gguf"] = gpt2, gguf(definition(vocab, merges, tokens=added(n, *CHAT)), "gpt2", "gpt-2")
    result["gpt2-prefix"] = definition(vocab, strings, tokens=added(n, *FLAGS), pre=byte_level(True, True), **tail), None
    result["flags-nfc"] = definition(vocab, merges, tokens=added(n, *FLAGS), normalizer={"type": "NFC"},
                                     pre=sequence("pretokenizers", split(SPLITS["qwen2"]), byte_level()), **tail), None
    result["nfkd"] = definition(vocab, merges, normalizer=sequence(
        "normalizers", {"type": "NFKD"}, {"type": "Replace", "pattern": {"Regex": r"\s{2,}"}, "content": " "}),
        pre=byte_level(False, True), **tail), None
    result["falcon-like"] = definition(vocab, merges, pre=sequence(
        "pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Digits", "individual_digits": False},
        split("[0-9][0-9][0-9]"), byte_level(False, False)), **tail), None
    for behavior in ["Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            result[f"split-{behavior.lower()}{'-invert' * invert}"] = definition(vocab, strings, pre=sequence(
                "pretokenizers", split(r"\s|[aeiou]+", behavior, invert), byte_level()), **tail), None
    result["split-string"] = definition(vocab, strings, pre=sequence(
        "pretokenizers", split("e", "MergedWithNext", False, "String"), byte_level()), **tail), None
    result["regex-odd"] = definition(vocab, strings, pre=sequence("pretokenizers", split(ODD), byte_level()), **tail), None
    few = {t: i for i, t in enumerate(t for t in vocab if t not in ("Ã", "©", "z") and not set(t) & {"Ã", "©", "z"})}
    result["missing-bytes"] = definition(few, [m for m in merges if all(p in few for p in (*m, "".join(m)))],
                                         pre=byte_level(False, True), **tail), None

    vocab, merges, scores = trained_pieces(380, True)
    n = len(vocab)
    core = [("<unk>", "s"), ("<s>", "s"), ("</s>", "s")]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace)
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = sequence("decoders", back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip)
    unknown = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    llama2 = definition(vocab, merges, tokens=added(0, *core) + added(n, ("<think>", "")), normalizer=prepend,
                        post=bos("<s>", 1), decoder=decoders, **unknown)
    result["llama2"] = llama2, None
    result["llama2-gguf"] = llama2, gguf(llama2, "llama", "default", scores, bos_token_id=1, eos_token_id=2, unknown_token_id=0)
    result["llama2-flags"] = definition(vocab, merges, tokens=added(0, *core) + added(n, *FLAGS[:-2]), normalizer=prepend,
                                        post=bos("<s>", 1), decoder=decoders, **unknown), None
    plain = definition(vocab, merges, tokens=added(0, *core), normalizer=replace, post=bos("<s>", 1),
                       decoder=sequence("decoders", back, {"type": "ByteFallback"}, {"type": "Fuse"}),
                       pre=split(" ", "MergedWithPrevious", False, "String"), **unknown)
    result["gemma-like"] = plain, None
    result["gemma-gguf"] = plain, gguf(plain, "llama", "", scores, bos_token_id=1, unknown_token_id=0, add_space_prefix=False)
    for scheme in ["always", "first", "never"]:
        for cut in [True, False]:
            metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
            result[f"metaspace-{scheme}{'' if cut else '-whole'}"] = definition(
                vocab, merges, tokens=added(0, *core) + added(n, ("<think>", "")), pre=metaspace, decoder=metaspace,
                **unknown), None
    vocab, merges, scores = trained_pieces(260, False)
    for fuse in [True, False]:
        result["unknown-fused" if fuse else "unknown"] = definition(
            vocab, merges, tokens=added(0, *core), normalizer=prepend, decoder=decoders, unk_token="<unk>", fuse_unk=fuse,
            byte_fallback=True), None
    result["unknown-dropped"] = definition(vocab, merges, tokens=added(0, *core), normalizer=prepend, decoder=decoders), None
    return result


def main():
    lines = [line for line in corpus.lines(900, SPECIAL, seed=3) if len(line) < 120][:LINES]
    lines += ["a" * 700, " " * 300, "ab" * 200]
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("*.json"):
        old.unlink()

    def write(name, value):
        (OUT / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")

    write("lines", lines)
    for position, (name, (source, metadata)) in enumerate(definitions().items()):
        reference = Tokenizer.from_str(json.dumps(source))
        spelled = [t["content"] for t in source["added_tokens"]]
        cases = []
        for i, line in enumerate(lines):
            if (i + position) % 6 and not any(s in line for s in spelled):  # every line is in several fixtures
                continue
            for parse in [True, False] if any(s in line for s in spelled) else [i % 2 == 0]:
                reference.encode_special_tokens = not parse
                add = i % 3 == 0
                ids = reference.encode(line, add_special_tokens=add).ids
                case = [i, parse, add, ids]
                for skip in [False, True]:
                    text = reference.decode(ids, skip_special_tokens=skip)
                    case.append(0 if text == line else text)  # 0 for the line itself: fixtures stay small
                cases.append(case)
        write(name, {"kind": "gguf" if metadata else "json", "definition": metadata or source, "added": spelled, "cases": cases})
    # The steps one by one. A special token that plain text spells is none here, but is in some models of the reference.
    for position, (name, source) in enumerate(steps.definitions().items()):
        reference = Tokenizer.from_str(json.dumps(source))
        special = [t["content"] for t in source["added_tokens"] if t["special"]]
        spelled = [t["content"] for t in source["added_tokens"]]
        cases = []
        order = sorted(range(LINES), key=lambda i: ((i + position) % 7, i))
        for i in order:
            if len(cases) == 35:
                break
            line = lines[i]
            parse, add = any(s in line for s in special) or i % 2 == 0, i % 3 == 0
            reference.encode_special_tokens = not parse
            try:
                ids = reference.encode(line, add_special_tokens=add).ids
                texts = [reference.decode(ids, skip_special_tokens=skip) for skip in [False, True]]
            except BaseException:  # what the reference cannot do, down to its panics
                continue
            cases.append([i, parse, add, ids, *(0 if text == line else text for text in texts)])
        write(f"step-{name}", {"kind": "json", "definition": source, "added": spelled, "cases": cases})
    total = sum(p.stat().st_size for p in OUT.glob("*.json"))
    print(f"{total} bytes")
    assert total < 1_500_000


if __name__ == "__main__":
    main()
