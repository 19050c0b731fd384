"""The files in data/corpus: tokenizer, stories, datasheet; made by `python -m concrete_steps.corpus --write`."""

import hashlib
import json
from pathlib import Path

from concrete_steps import corpus
from concrete_steps.errors import CourseError

SLICE = 1500  # stories
REMEDY = "restore it with `git checkout -- data/corpus`, or install concrete-steps again"


def verified(name: str) -> Path:
    """The path of a file in data/corpus, after its sha256 was compared with the datasheet's."""
    path, sheet = corpus.corpus_dir() / name, corpus.corpus_dir() / "datasheet.json"
    if not path.is_file():
        raise CourseError(f"{path} is missing; {REMEDY}.")
    try:
        expected = json.loads(sheet.read_text(encoding="utf-8"))["files"][name]
    except (OSError, ValueError, KeyError, TypeError):
        raise CourseError(f"{sheet} is missing or damaged; {REMEDY}.") from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise CourseError(f"{path} is damaged (its sha256 is not the datasheet's); {REMEDY}.")
    return path


def load_tokenizer():
    """A PreTrainedTokenizerFast that needs no hub."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(verified("tokenizer.json")),
        bos_token=corpus.BOS,
        eos_token=corpus.END,
        pad_token=corpus.PAD,
        unk_token="[UNK]",
        add_bos_token=True,
        name_or_path="concrete-steps-stories",
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def build_tokenizer(vocabulary: list[str]):
    """A tokenizers.Tokenizer that cuts a story's text into exactly the tokens that wrote it.

    The text is cut into words and signs, each with the space before it; a word that is not in the vocabulary as a whole
    (an invented name) is cut into the longest known pieces. [BOS] is put first.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {token: number for number, token in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix=""))
    # "Mary gave" is read as " Mary gave": a text may begin with any word, not only with those that begin a story.
    bare = "|".join(token for token in vocabulary if token[0].isalpha())
    made.normalizer = normalizers.Replace(Regex(rf"\A(?=[A-Za-z])(?!(?:{bare})\b)"), " ")
    made.pre_tokenizer = pre_tokenizers.Split(Regex(corpus.law.TOKEN.pattern), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(list(corpus.SPECIAL))
    made.post_processor = processors.TemplateProcessing(
        single=f"{corpus.BOS} $A", pair=f"{corpus.BOS} $A $B", special_tokens=[(corpus.BOS, ids[corpus.BOS])]
    )
    return made


def write() -> None:
    """Write the three files; the same bytes on every machine."""
    folder = corpus.corpus_dir()
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(corpus.vocabulary()).save(str(folder / "tokenizer.json"))
    lines = [
        json.dumps({"text": s.text, "log_prob": round(s.log_prob, 4), "facts": s.facts}, ensure_ascii=False)
        for s in corpus.stories(SLICE)
    ]
    (folder / "stories.jsonl").write_bytes("\n".join(lines).encode() + b"\n")
    value, error = corpus.entropy()
    names = ("tokenizer.json", "stories.jsonl")
    sheet = {
        "what": f"{SLICE} small stories of known law, and the tokenizer; more come from concrete_steps.corpus",
        "made_by": "python -m concrete_steps.corpus --write",
        "licence": "CC BY 4.0; generated, no text of others",
        "entropy_nats_per_token": round(value, 4),
        "entropy_standard_error": round(error, 4),
        "entropy_method": "exact -log p of each of 2000 sampled stories over their mean length; see corpus.entropy",
        "tokens": len(corpus.vocabulary()),
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
    }
    (folder / "datasheet.json").write_bytes(json.dumps(sheet, indent=1).encode() + b"\n")
