"""The tokenizer of LLVM IR: no text is changed, and what can be derived costs nothing."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.ir.samples import COMPILED, TEXT, compiled
from tests.tokenizers.llvm_ir_texts import FUNCTION, RUST, canonical_text, small_vocabulary, texts
from tokenmill.errors import AssetError, CorruptionError, ItemError
from tokenmill.ir.ir_file import IrFile
from tokenmill.tokenizers.llvm_ir import LlvmIrTokenizer, coding
from tokenmill.tokenizers.llvm_ir.coding import Coder
from tokenmill.tokenizers.llvm_ir.layout import (
    ALLOCAS,
    BLOCKS,
    BLOCKS_BACK,
    HEX_PAIRS,
    LABEL,
    LABEL_RAW,
    NAMED_LABEL,
    NEW_NAME,
    NUMBER,
    NUMBER_AGAIN,
    NUMBERED,
    NUMBERED_ALLOCA,
    PARAMETER,
    PARAMETERS,
    PART_AGAIN,
    PROBES,
    RAW_HEX_PAIRS,
    STEP_NUMBERS,
    STEP_NUMBERS_BACK,
    STEP_NUMBERS_COUNT,
    VALUES,
    VALUES_BACK,
)
from tokenmill.tokenizers.llvm_ir.vocabulary import MODES, Mode

#: Names of one place in the table of names, more of them than it is searched for.
COLLIDING = b"""
biycla clnkea cqgaja cwuvxa ftwqxa jsnsca juewma kaztra lelhca lmrana lukiea nryika smqhia sorrza tytkaa uaxyva
vhjwja wirpwa ywleua ywthma zcikha zymina bkpjpb bszofb bukvtb erozub fjlpkb grqacb htrrob iqfxob obdwyb polnbb
ppegnb sohvgb udwpeb vqffub yuwkfb bnmloc bubgrc cewyzc cnpdoc dthlgc dzlycc fhabjc fywggc gfkdwc gfwrbc kwfudc
oddknc qixzjc rwdwec vqnlmc wbazac wmhpvc wouoic zpwfdc aehjud azklsd caiind fpqwwd fuzild gxacad haknhd mphgcd
mqjljd peytdd ubantd vsmtpd xjbrqd xojlhd ywspfd zegbqd znexxd bqqrxe dhnlte dorive ezxwue fexdae fsdgwe htdzve
""".split()

HOSTILE = (
    b"",
    b"\n",
    b"\n\n\n",
    b"no IR at all",
    bytes(range(256)),
    bytes(range(255, -1, -1)) * 3,
    b"define ",
    b"define \n}",
    b"define x\n\n\n}\n}\n\n}",
    b"define @f(%0 %1 %0, %x)\n  %2 = alloca \n  %2 = alloca i1\n\n3:\n  br label %3, label %4, label %99\n",
    b"define @f() {\nstart:\n  br label %start\n\nstart:   ; preds = %start\n}\n",
    b"define @f() {\n  br label %1\n\n1:" + b" " * 48 + b"; preds = %0\ndefine @g() {\n\n1:\n}",
    b"define @f() {\n" + b"\n".join(b"\nb%d:" % number for number in range(300)) + b"\n}",
    b"!0 = !{!0, !1, !00, !999999999999, !8388607, !8388608}\n!1 = !{}\n!1 = !{}\n!3 = #0 #1 #00 #99999999",
    b'@"a b" %"c" @"" @"x @x$ $$ %%x %" @"\\22" %-x @.str @.str.1 @.str.01 @.str.1 @.str "x y" ".str" ".str.1"',
    b"  \n   \n    \n          \n            x\n          \n  }",
    b"x" * 5000 + b"@" + b"n" * 5000 + b"\n" + b"@a@b@c" * 500,
    b"%18446744073709551616 = %-1 %007\n  %007 = alloca x\n",
    FUNCTION.replace(b"%2\n", b"%3\n"),
    FUNCTION.replace(b"preds = %6, %2", b"preds = %2, %6"),
    FUNCTION.replace(b"\n\n6:", b"\n6:"),
    FUNCTION[:-2],
    FUNCTION[100:] + FUNCTION,
    FUNCTION.replace(b"\n", b"\r\n"),
    TEXT,
    RUST,
    RUST.replace(b"start:", b"start: "),
    RUST.replace(b"base64", b"99se64"),
    b'@_Z3foo @_Z9ab3foo @_Z3foo3foo @_ZN @_Z3 @_R0 @_R03fo @_R9999999999999x "_Z" "_Z3foo3bar" "_Z3foo3baz"',
    b"@_Z" + b"3foo" * 3000 + b"\n@_Z" + b"3bar" * 3000 + b"\n@_Z" + b"".join(b"4p%03d" % n for n in range(1000)) * 3,
    b"@_Z" + b"1" * 5000 + b" @_Z200" + b"x" * 200 + b" @_Z200" + b"x" * 200,
    b"!0 = !{ 0, 00, 8388607, 8388608, 5, 5, 6, 700, 5, 5x, 99999999999}\n!1 = !{ 0, 1, 2, 3, 4, 9, 9}\n 7 7\n",
    b'"' + b"abcdef0123456789" * 3 + b'a" @' + b"0123456789abcdef" * 2 + b" @f" + b"0" * 9 + b"\n",
    b"".join(b"@%s " % word for word in COLLIDING + COLLIDING),
    b"define @f() {\n" + b"".join(b"  %%%s = x %%%s\n" % (word, word) for word in COLLIDING) + b"}",
)


@pytest.fixture(scope="module", params=MODES)
def coder(request: pytest.FixtureRequest) -> Coder:
    mode: Mode = request.param
    return Coder(small_vocabulary(), mode)


@pytest.mark.parametrize("name", COMPILED)
def test_a_module_decodes_to_its_text(coder: Coder, name: str) -> None:
    for text in (canonical_text(name), canonical_text(name, comments=False)):
        tokens = coder.encode(text)
        assert tokens.exact
        assert coder.decode(tokens.ids) == text
        assert len(tokens.functions) == text.count(b"\ndefine ")


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_decodes_to_itself(coder: Coder, text: bytes) -> None:
    tokens = coder.encode(text)
    assert tokens.exact
    assert coder.decode(tokens.ids) == text


def test_damaged_modules_decode_to_themselves(coder: Coder) -> None:
    draw = random.Random(5)
    for text in texts():
        for _ in range(40):
            lines = text[: draw.randrange(500, 20_000)].split(b"\n")
            for _ in range(draw.randrange(1, 12)):
                at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
                kind = draw.randrange(6)
                if kind == 0:
                    lines[at], lines[other] = lines[other], lines[at]
                elif kind == 1:
                    del lines[at]
                    lines.append(b"")
                elif kind == 2:
                    lines.insert(at, lines[other])
                elif kind == 3:
                    lines[at] = lines[at][: len(lines[at]) // 2] + lines[other][len(lines[other]) // 2 :]
                elif kind == 4:
                    lines[at] = lines[at].replace(b"%1", b"%2", 1).replace(b"preds = %", b"preds = %1")
                elif lines[at]:
                    place = draw.randrange(len(lines[at]))
                    lines[at] = lines[at][:place] + bytes([draw.randrange(256)]) + lines[at][place + 1 :]
            damaged = b"\n".join(lines)
            tokens = coder.encode(damaged)
            assert tokens.exact
            assert coder.decode(tokens.ids) == damaged


def test_operands_are_told_by_where_they_were_defined() -> None:
    coder = Coder(small_vocabulary(), "lexeme")
    units = coder.units(FUNCTION)[0].tolist()
    assert units.count(PARAMETER) == 2
    assert units.count(NUMBERED_ALLOCA) == 1
    assert units.count(NUMBERED) == 4
    assert units.count(LABEL) == 2
    assert units.count(PARAMETERS + 1) == 1  # what is stored
    assert units.count(ALLOCAS) == 2  # where to, and from where it is loaded
    assert units.count(VALUES + VALUES_BACK - 1) == 4
    assert units.count(BLOCKS + BLOCKS_BACK + 1) == 2  # the next block, from each of the first two
    assert units.count(BLOCKS + BLOCKS_BACK + 2) == 1


def test_a_comment_that_cannot_be_derived_is_written_out() -> None:
    coder = Coder(small_vocabulary(), "lexeme")
    other = FUNCTION.replace(b"preds = %6, %2", b"preds = %2, %6")
    units = coder.units(other)[0].tolist()
    assert units.count(LABEL) == 1
    assert units.count(LABEL_RAW) == 1
    assert coder.decode(coder.encode(other).ids) == other


def test_a_label_needs_no_comment() -> None:
    units = Coder(small_vocabulary(), "lexeme").units(RUST)[0].tolist()
    assert units.count(NAMED_LABEL) == 2
    assert units.count(NUMBERED) == 1  # %0: a first block with a name takes no number


def test_parts_of_names_that_come_again_are_spelled_once() -> None:
    coder = Coder(small_vocabulary(), "lexeme")
    units, _, _ = coder.units(RUST)
    assert np.count_nonzero(units == NEW_NAME) == 8
    assert np.count_nonzero(units == PART_AGAIN) == 6  # `6base64` and `6encode`, from the second name on
    assert np.count_nonzero((units >= HEX_PAIRS) & (units < HEX_PAIRS + 256)) == 4 * 8 + 16
    assert np.count_nonzero((units >= RAW_HEX_PAIRS) & (units < RAW_HEX_PAIRS + 256)) == 16


def test_numbers_of_nodes_are_told_by_the_last_of_their_kind() -> None:
    units, _, _ = Coder(small_vocabulary(), "lexeme").units(RUST)
    steps = units[(units >= STEP_NUMBERS) & (units < STEP_NUMBERS + STEP_NUMBERS_COUNT)].astype(int)
    assert (steps - STEP_NUMBERS - STEP_NUMBERS_BACK).tolist() == [7, 7, 2, 4]
    assert np.count_nonzero(units == NUMBER) == 3  # 1200, 12, 5
    assert np.count_nonzero(units == NUMBER_AGAIN) == 1


def test_names_that_find_no_place_are_spelled_again() -> None:
    units, _, _ = Coder(small_vocabulary(), "lexeme").units(b"".join(b"@%s " % word for word in COLLIDING + COLLIDING))
    assert np.count_nonzero(units == NEW_NAME) == 2 * len(COLLIDING) - PROBES


def test_a_text_that_few_tokens_stand_for_is_not_written_without_end(
    coder: Coder, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = b"@" + b"n" * 10_000
    text = b" ".join([name] * 200)
    ids = coder.encode(text).ids
    label = b"b" * 10_000
    block = b"\n\n" + label + b":\n" + b"  br label %end\n" * 200
    function = b"define @f() {" + block + b"\nend:                                              ; preds = "
    function += b", ".join([b"%" + label] * 200) + b"\n}"
    branches = coder.encode(function).ids
    assert len(ids) < 20_000
    monkeypatch.setattr(coding, "LARGEST_TEXT", 1_000_000)
    for tokens in (ids, branches):
        with pytest.raises(CorruptionError, match="1,000,000 bytes"):
            coder.decode(tokens)
    with pytest.raises(ItemError, match="1,000,000"):
        coder.encode(text)


def test_renumbered_functions_have_the_same_tokens() -> None:
    """Numbers that LLVM gave are in no token: a function with another one's body has its tokens."""
    coder = Coder(small_vocabulary(), "line")
    body = b"define void @f(%s) {\n%s  store i32 %%%d, ptr %%%d, align 4\n  ret void\n}\n"
    one = body % (b"i32 %0", b"  %2 = alloca i32, align 4\n", 0, 2)
    two = body % (b"i32 %0", b"  %2 = alloca i32, align 4\n", 0, 2)
    wider = body % (b"i32 %0, i32 %1", b"  %3 = alloca i32, align 4\n", 0, 3)
    assert coder.encode(one).ids.tolist() == coder.encode(two).ids.tolist()
    assert coder.encode(wider).ids.tolist()[-2:] == coder.encode(one).ids.tolist()[-2:]


def test_functions_end_where_the_stream_says(coder: Coder) -> None:
    text = canonical_text("rust-rustc1.95.bc")
    tokens = coder.encode(text)
    bodies = text.split(b"\n}")
    assert len(tokens.functions) == len(bodies) - 1
    for number, end in enumerate(tokens.functions.tolist()):
        assert coder.decode(tokens.ids[:end]) == b"\n}".join(bodies[: number + 1]) + b"\n}"


def test_tokens_stay_within_lines_or_lexemes() -> None:
    text = canonical_text("cpp-clang19.bc")
    lexeme, line = Coder(small_vocabulary(), "lexeme"), Coder(small_vocabulary(), "line")
    assert len(line.encode(text).ids) < len(lexeme.encode(text).ids) < len(text)
    units, flags, _ = lexeme.units(text)
    starts = set(np.flatnonzero(flags).tolist())
    at = 0
    for token in lexeme.encode(text).ids.tolist():
        length = len(lexeme.units_of(token))
        assert not starts & set(range(at + 1, at + length))
        at += length
    assert at == len(units)


def test_compiled_code_gives_the_tokens_that_python_gives(tmp_path: Path) -> None:
    """The same sources run without compilation: wrapping of numbers, types and bounds do not differ."""
    vocabulary, text = small_vocabulary(), canonical_text("c-clang19.bc")[:3000] + FUNCTION
    (tmp_path / "vocabulary").write_bytes(vocabulary.to_bytes())
    (tmp_path / "text").write_bytes(text)
    program = (
        "import sys, pathlib, numpy\n"
        "from tokenmill.tokenizers.llvm_ir.coding import Coder\n"
        "from tokenmill.tokenizers.llvm_ir.vocabulary import Vocabulary\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "numpy.seterr(over='ignore')\n"
        "coder = Coder(Vocabulary.from_bytes((folder / 'vocabulary').read_bytes(), 'x'), 'line')\n"
        "ids = coder.encode((folder / 'text').read_bytes()).ids\n"
        "ids.tofile(folder / 'ids')\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment, timeout=240)
    expected = np.fromfile(tmp_path / "ids", np.uint16)
    np.testing.assert_array_equal(Coder(vocabulary, "line").encode(text).ids, expected)


def test_tokens_do_not_depend_on_what_came_before_or_on_threads(coder: Coder) -> None:
    alone = [Coder(small_vocabulary(), "line").encode(text).ids for text in texts()[:1]]
    whole = Coder(small_vocabulary(), "line")
    for text in reversed(texts()):
        whole.encode(text)
    np.testing.assert_array_equal(whole.encode(texts()[0]).ids, alone[0])
    once = [coder.encode(text).ids.tolist() for text in texts()]
    with ThreadPoolExecutor(4) as threads:
        again = list(threads.map(lambda text: coder.encode(text).ids.tolist(), texts() * 3))
    assert again == once * 3


def test_ids_of_no_text_are_refused(coder: Coder) -> None:
    draw = np.random.default_rng(4)
    refused = 0
    for _ in range(300):
        ids = draw.integers(0, coder.size, 200).astype(np.uint16)
        ids[0] = 256
        try:
            coder.decode(ids)
        except CorruptionError:
            refused += 1
    assert refused > 200
    with pytest.raises(CorruptionError):
        coder.decode(np.array([coder.size], np.uint16))


def test_damaged_ids_touch_no_memory_but_their_own(tmp_path: Path) -> None:
    """Compiled code checks no bounds: the same sources, not compiled, raise IndexError for a place beyond them."""
    vocabulary = small_vocabulary()
    (tmp_path / "vocabulary").write_bytes(vocabulary.to_bytes())
    (tmp_path / "text").write_bytes(RUST + FUNCTION + RUST[:200])
    program = (
        "import sys, pathlib, numpy\n"
        "from tokenmill.errors import CorruptionError\n"
        "from tokenmill.tokenizers.llvm_ir.coding import Coder\n"
        "from tokenmill.tokenizers.llvm_ir.vocabulary import Vocabulary\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "numpy.seterr(over='ignore')\n"
        "coder = Coder(Vocabulary.from_bytes((folder / 'vocabulary').read_bytes(), 'x'), 'lexeme')\n"
        "whole = coder.encode((folder / 'text').read_bytes()).ids\n"
        "draw = numpy.random.default_rng(7)\n"
        "counts = [0, 0]\n"
        "for _ in range(400):\n"
        "    ids = whole.copy()\n"
        "    for _ in range(draw.integers(1, 6)):\n"
        "        ids[draw.integers(1, len(ids))] = draw.choice([draw.integers(coder.size), *draw.choice(whole, 9)])\n"
        "    try:\n"
        "        coder.decode(ids)\n"
        "    except CorruptionError:\n"
        "        counts[0] += 1\n"
        "    else:\n"
        "        counts[1] += 1\n"
        "print(*counts)\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    ran = subprocess.run(command, check=True, env=environment, timeout=240, capture_output=True, text=True)
    assert min(map(int, ran.stdout.split())) > 20


def test_the_tokenizer_gives_streams_and_texts() -> None:
    tokenizer = LlvmIrTokenizer()
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    encoder, decoder = tokenizer.load(), tokenizer.decoder()
    modules = [encoder.prepare(IrFile(compiled(name))) for name in COMPILED]
    encoded = encoder.encode(modules)
    specs = tokenizer.streams()
    for name, spec in specs.items():
        encoded.streams[name].check(name, spec, len(modules))
    for row, module in enumerate(modules):
        streams = {name: values[row] for name, values in encoded.streams.items()}
        assert decoder.decode(streams).encode("utf-8", errors="surrogateescape") == module.text
        assert streams["functions"][-1] <= len(streams["ids"])
    printed = tokenizer.token_text(encoded.streams["ids"][0].tolist())
    assert any("alloca" in text for text in printed)


def test_the_packaged_vocabulary_makes_lines_short() -> None:
    text = canonical_text("c-clang19.bc")
    counts = {}
    for mode in MODES:
        encoder = LlvmIrTokenizer(mode=mode).load()
        module = encoder.prepare(IrFile(compiled("c-clang19.bc")))
        counts[mode] = len(encoder.encode([module]).streams["ids"][0])
    assert len(text) / counts["line"] > 10
    assert len(text) / counts["lexeme"] > 4


def test_a_vocabulary_that_is_not_there_is_named(tmp_path: Path) -> None:
    tokenizer = LlvmIrTokenizer(vocabulary=str(tmp_path / "none"))
    with pytest.raises(AssetError, match="none"):
        tokenizer.load()
