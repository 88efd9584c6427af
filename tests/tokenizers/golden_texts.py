"""The texts of the golden fixtures, and how those are made: by the reference libraries alone.

`python -m tests.tokenizers.golden_texts` writes them anew; they only change when a text is added.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.tokenizers.vocabularies import sentencepiece_model, tiktoken_encoding, tokenizer_json

GOLDEN = Path(__file__).parent / "golden"

TEXTS = (
    "",
    " ",
    "Hello, world! I'LL say it's 1,234,567.89 €.",
    "  leading, trailing \t\r\n\n  mixed \x0b\x0c\x85\u2028\u3000 white space \n \n",
    "<|endoftext|><s></s><unk>[INST]<｜begin▁of▁sentence｜><0x0A> ▁▁",
    "naïve cafe\u0301 Å A\u030a ﬁ ß ẞ ſ K\u212a İ ı ǅ",
    "日本語テキスト、漢字。ひらがな！ 한국어 띄어쓰기 中文没有空格",
    "नमस्ते สวัสดีชาวโลก مرحبا שָׁלוֹם ქართული አማርኛ",
    "👩\u200d👩\u200d👧\u200d👦🏴\U000e0067\U000e0062\U000e007f🇩🇪 ❤️ 🪿 \U0001fae9",
    "\x00\x01\x1c\x1d\x7f\ufeff\ufffd\uffff\U0010ffff\ue000",
    "def f(x):\n\treturn {'a': x[1:-1], \"b\": 0xFF}  # ///\n\n\n/* aBcDEFgHi */\r\n",
    "a" * 120 + " " * 120 + "!" * 120 + "7" * 120 + "\n" * 120 + "的" * 40,
)


def references() -> dict[str, Callable[[str], list[int]]]:
    from sentencepiece import SentencePieceProcessor
    from tokenizers import Tokenizer

    huggingface = Tokenizer.from_file(str(tokenizer_json()))
    huggingface.encode_special_tokens = True
    sentencepiece = SentencePieceProcessor(model_file=str(sentencepiece_model()))
    return {
        "bytes": lambda text: list(text.encode()),
        "huggingface": lambda text: list(huggingface.encode(text, add_special_tokens=False).ids),
        "sentencepiece": lambda text: list(sentencepiece.encode(text)),
        "tiktoken-cl100k_base": tiktoken_encoding("cl100k_base").encode_ordinary,
        "tiktoken-o200k_base": tiktoken_encoding("o200k_base").encode_ordinary,
    }


def write() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, encode in references().items():
        rows = [{"text": text, "ids": encode(text)} for text in TEXTS]
        lines = ",\n".join(json.dumps(row) for row in rows)
        (GOLDEN / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    write()
