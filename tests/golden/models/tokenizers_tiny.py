"""Tiny tokenizers for the tiny checkpoints, trained on corpus.txt.

Three families, as the supported checkpoints have them: byte-level BPE with the Qwen2 split pattern, byte-level
BPE with single digits (SmolLM2), and SentencePiece-style BPE with byte fallback (Llama 2, Mistral).
"""

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def corpus() -> list[str]:
    return (Path(__file__).parent / "corpus.txt").read_text(encoding="utf-8").splitlines(keepends=True)


def byte_level(size: int, style: str) -> Tokenizer:
    """Byte-level BPE of `size` tokens; style 'qwen' puts the special tokens last, 'smollm' first."""
    tokenizer = Tokenizer(models.BPE())
    if style == "qwen":
        tokenizer.normalizer = normalizers.NFC()
        split = [pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        split = [pre_tokenizers.Digits(individual_digits=True),
                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(text, special=True, normalized=False) for text in CHATML_SPECIALS]
    trainer = trainers.BpeTrainer(
        vocab_size=size - (len(specials) if style == "qwen" else 0),
        special_tokens=[] if style == "qwen" else specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(specials)
    return tokenizer


def sentencepiece_like(size: int) -> tuple[Tokenizer, list[float]]:
    """BPE with byte fallback, and the scores a SentencePiece file would carry (0 for unk, s, /s and bytes).

    The merges are every pair of pieces whose join is a piece, best score first, which is what merging by score
    means; so the same vocabulary read from GGUF (scores) and from tokenizer.json (merges) gives the same ids.
    """
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizer
    # Lines are cut before each word so that no piece spans two words, as SentencePiece does by default.
    trained.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    # Only the Latin letters get pieces of their own; the other scripts of the corpus must fall back to bytes.
    latin = [line for line in corpus() if all(ord(char) < 0x80 or char in "äöüßéà" for char in line)]
    alphabet = sorted({char for line in latin for char in line if char.isalpha()} | set("▁.,;:'\"()"))
    trainer = trainers.BpeTrainer(vocab_size=size - len(pieces), limit_alphabet=len(alphabet),
                                  initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator([line.replace("\n", "") for line in latin], trainer)
    by_id = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    merged = [piece for piece, _ in by_id if len(piece) > 1]
    single = [piece for piece, _ in by_id if len(piece) == 1]
    # As in a SentencePiece model: merged pieces first, in the order they were learned, then single characters.
    pieces += merged + single
    scores = [0.0] * 259 + [float(-rank) for rank in range(len(merged) + len(single))]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    assert len(vocabulary) == size, len(vocabulary)
    merges = []
    for piece in merged:
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        merges += [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True,
                                     byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in pieces[:3]])
    return tokenizer, scores
