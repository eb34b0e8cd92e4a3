import collections
import concurrent.futures
import json
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from keras_luong.ids import END_ID, PADDING_ID, START_ID, UNKNOWN_ID
from keras_luong.text import SubwordTokenizer, subword_tokenizer
from tests.labelled import Labelled

GERMAN = [
    "Ein Hund läuft über die Straße.",
    "Zwei Hunde laufen über die Wiese.",
    "Der Mann sieht einen Hund und eine Frau.",
    "Eine Frau läuft mit dem Mann durch die Stadt 12, 345.",
    "Am 3. Mai 2021 laufen 24 Männer über 67 Straßen und 89 Wiesen.",
]
ENGLISH = [
    "A dog runs across the street.",
    "Two dogs run across the meadow.",
    "The man sees a dog and a woman.",
    "A woman runs through the town with the man.",
]
ODD = [
    "",
    " ",
    "     ",
    "\t\n",
    " leading",
    "trailing ",
    "two  spaces   between",
    "a\tb\nc\r\nd",
    "😀",
    "Hund😀Hund 👩‍👩‍👧",
    "e\u0301 é ﬁ ① ＡＢＣ",
    "שלום עולם",
    "مرحبا بالعالم",
    "日本語 한국어",
    "▁",
    "▁▁Hund▁ ▁",
    "\u00a0Hund\u3000Hund\u2028Hund\u200b",
    "\ufeffHund",
    "Hund\x00Hund\x01",
    "\ufffd \U0010ffff \ue000",
    "<s> </s> <pad> <unk> a<s>b",
    " ⁇ ",
    "Hund" * 5000,
    "Hund " * 5000,
]


def random_texts(count):
    rng = random.Random(5)

    def character():
        kind = rng.random()
        if kind < 0.7:
            return rng.choice("aehnrdulHEDMSßäüo   .,123<s>/▁\t")
        code = rng.randrange(0x250 if kind < 0.85 else 0x110000)
        return chr(code) if not 0xD800 <= code < 0xE000 else "?"

    return ["".join(character() for _ in range(rng.randrange(30))) for _ in range(count)]


@pytest.fixture(scope="module", params=subword_tokenizer.NORMALIZATIONS)
def normalization(request):
    return request.param


@pytest.fixture(scope="module", params=["unigram", "char"])
def any_tokenizer(request, normalization):
    size = 56 if request.param == "unigram" else 36
    return SubwordTokenizer.train(
        GERMAN, size, model_type=request.param, normalization=normalization
    )


@pytest.fixture(scope="module")
def german():
    return SubwordTokenizer.train(GERMAN, 60)


@pytest.fixture(scope="module")
def english():
    return SubwordTokenizer.train(ENGLISH, 38, normalization="identity")


@pytest.fixture(scope="module")
def bpe():
    return SubwordTokenizer.train(GERMAN, 100, model_type="bpe")


@pytest.fixture(scope="module")
def bpe_with_bytes():
    return SubwordTokenizer.train(ENGLISH, 330, model_type="bpe", byte_fallback=True)


@pytest.fixture(scope="module")
def unigram_with_bytes():
    return SubwordTokenizer.train(GERMAN, 310, byte_fallback=True, normalization="identity")


def check_agrees_with_sentencepiece(tokenizer):
    """Returns the ids of all texts."""
    texts = GERMAN + ODD + random_texts(2000)
    reference = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    # The one thing done before sentencepiece's own rules: ASCII white space and its space mark.
    plain = [text.translate(dict.fromkeys(map(ord, "\t\n\v\f\r▁"), " ")) for text in texts]
    expected = reference.encode(plain)
    ids = tokenizer.tokenize(texts)
    assert ids.dtype == tf.int32
    assert ids.to_list() == expected
    joined = tokenizer.detokenize(ids).numpy()
    assert [text.decode() for text in joined] == reference.decode(expected)
    # Of some texts nothing is left, of others much.
    assert {len(row) for row in expected} > {0, 2, 3}
    return expected


def test_agrees_with_sentencepiece_on_odd_and_random_text(any_tokenizer):
    expected = check_agrees_with_sentencepiece(any_tokenizer)
    assert any(UNKNOWN_ID in row for row in expected)


@pytest.mark.parametrize("name", ["bpe", "bpe_with_bytes", "unigram_with_bytes"])
def test_bpe_and_bytes_agree_with_sentencepiece(name, request):
    tokenizer = request.getfixturevalue(name)
    expected = check_agrees_with_sentencepiece(tokenizer)
    assert any(UNKNOWN_ID in row for row in expected) == (name == "bpe")
    known = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    assert (known.pad_id(), known.unk_id(), known.bos_id(), known.eos_id()) == (0, 1, 2, 3)
    # Any ids at all, bytes in an order that is no UTF-8 among them.
    ids = np.random.default_rng(3).integers(0, tokenizer.vocabulary_size, (200, 12))
    kept = [[int(id_) for id_ in row if id_ not in (PADDING_ID, START_ID, END_ID)] for row in ids]
    written = [text.decode() for text in tokenizer.detokenize(ids).numpy()]
    assert written == known.decode(kept)


def test_new_seeds_leave_a_tokenizer_as_it_is(bpe):
    """TensorFlow clears its kernels then, and what belongs to them."""
    expected = bpe.tokenize(GERMAN).to_list()
    in_graph = tf.function(lambda texts: bpe.tokenize(texts).to_tensor())
    dense = in_graph(tf.constant(GERMAN)).numpy()
    tf.random.set_seed(3)
    assert bpe.tokenize(GERMAN).to_list() == expected
    np.testing.assert_array_equal(in_graph(tf.constant(GERMAN)), dense)


def test_bytes_write_what_the_vocabulary_has_not(bpe_with_bytes):
    ids = bpe_with_bytes.tokenize(["a 犬"])
    pieces = [piece.decode() for piece in bpe_with_bytes.pieces(ids.values).numpy()]
    assert pieces[-3:] == [f"<0x{byte:02X}>" for byte in "犬".encode()]
    assert bpe_with_bytes.detokenize(ids).numpy()[0].decode() == "a 犬"


# The pairs of neighbours that stand most often: `l o` and `o w`, three times each.
def test_bpe_worked_by_hand():
    tokenizer = SubwordTokenizer.train(["low low lower"], 13, model_type="bpe")
    pieces = [piece.decode() for piece in tokenizer.pieces(range(4, 13)).numpy()]
    # Three merges, after which `low` is one piece, and the characters, the most frequent first.
    assert (sorted(pieces[:3], key=len)[-1], set(pieces[3:])) == ("▁low", set("▁lower"))
    ids = tokenizer.tokenize(["lower"])
    assert [one.decode() for one in tokenizer.pieces(ids.values).numpy()] == ["▁low", "e", "r"]


# Each merge is left out with the probability 1: characters are left; and BPE-dropout of 0.5 draws
# many segmentations of the same text.
def test_bpe_dropout(bpe):
    characters = [
        list(map(len, map(bytes.decode, bpe.pieces(tf.constant(row)).numpy())))
        for row in bpe.sample(["Hunde laufen"], 1.0, 1)
    ]
    assert set(characters[0]) == {1}
    drawn = bpe.sample(["Hunde laufen"] * 200, 0.5, 1)
    assert len({tuple(row) for row in drawn}) > 20
    assert set(bpe.detokenize(tf.ragged.constant(drawn)).numpy()) == {b"Hunde laufen"}
    assert bpe.sample(GERMAN, 1e-9, 1) == bpe.tokenize(GERMAN).to_list()
    with pytest.raises(ValueError, match="at most 1. Received: 1.5"):
        bpe.sample(GERMAN, 1.5, 1)


def test_control_ids_never_come_out_of_text(any_tokenizer):
    texts = ["<s>", "</s>", "<pad>", "a<s>b </s>", "▁<s>▁", *random_texts(500)]
    ids = any_tokenizer.tokenize(texts)
    assert all(row for row in ids.to_list()[:5])
    assert not {PADDING_ID, START_ID, END_ID} & set(ids.values.numpy())


def test_text_survives_the_round_trip(german):
    ids = german.tokenize(GERMAN)
    assert [text.decode() for text in german.detokenize(ids).numpy()] == GERMAN
    # Subwords, not characters.
    assert ids.row_lengths().numpy().sum() < sum(map(len, GERMAN)) / 1.5


def test_invalid_utf8_counts_as_the_replacement_character(german, english):
    for tokenizer in (german, english):
        broken = tokenizer.tokenize(tf.constant([b"dog \xff\xfe und", b"\xc3", b"dog"])).to_list()
        replaced = tokenizer.tokenize(["dog \ufffd\ufffd und", "\ufffd", "dog"]).to_list()
        assert broken == replaced
        assert broken[2]
    assert UNKNOWN_ID in broken[0]  # `german` normalizes U+FFFD to a space, `english` keeps it


def test_empty_batches_and_empty_texts(german):
    nothing = german.tokenize(tf.zeros([0], tf.string))
    assert nothing.shape.as_list() == [0, None]
    assert german.detokenize(nothing).shape == (0,)
    assert german.detokenize(tf.zeros([0, 3], tf.int32)).shape == (0,)
    empty = german.tokenize(["", "", " "])
    assert empty.to_list() == [[], [], []]
    assert german.detokenize(empty).numpy().tolist() == [b"", b"", b""]
    assert german.detokenize(tf.zeros([2, 0], tf.int32)).numpy().tolist() == [b"", b""]
    assert german.pieces(tf.zeros([2, 0], tf.int32)).shape == (2, 0)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_detokenize_drops_special_ids_wherever_they_stand(german, dtype):
    hund, mann = german.tokenize(["Hund", "Mann und"]).to_list()
    rows = [
        [START_ID, *hund, END_ID, END_ID],
        [PADDING_ID, *mann[:1], END_ID, PADDING_ID, *mann[1:], START_ID],
        [START_ID, END_ID],
    ]
    expected = [b"Hund", b"Mann und", b""]
    ragged = tf.ragged.constant(rows, dtype)
    assert german.detokenize(ragged).numpy().tolist() == expected
    assert german.detokenize(ragged.to_tensor(PADDING_ID)).numpy().tolist() == expected


def test_ids_outside_the_vocabulary_count_as_unknown(german):
    known = german.tokenize(["Hund"]).to_list()[0]
    outside = [[*known, german.vocabulary_size], [*known, -1], [*known, 2**31 - 1]]
    unknown = german.detokenize([[*known, UNKNOWN_ID]]).numpy()[0]
    assert german.detokenize(outside).numpy().tolist() == [unknown] * 3
    assert unknown.decode() == "Hund ⁇ "
    assert german.pieces(outside).numpy()[:, -1].tolist() == [b"", b"", b""]


def test_pieces_name_every_id(german):
    reference = sentencepiece.SentencePieceProcessor(model_proto=german.model)
    ids = np.arange(german.vocabulary_size).reshape(2, 1, -1)
    pieces = german.pieces(ids).numpy()
    assert pieces.shape == ids.shape
    flat = [piece.decode() for piece in pieces.ravel()]
    assert flat[0] == ""
    assert flat[1:] == [reference.id_to_piece(i) for i in range(1, german.vocabulary_size)]
    row = german.tokenize(["Hund und Frau"]).to_tensor()
    assert b"".join(german.pieces(row).numpy()[0]).decode() == "▁Hund▁und▁Frau"


def test_wrong_ranks_are_refused(german):
    with pytest.raises(ValueError, match=r"`texts` must have shape \(batch,\).*\(1, 1\)"):
        german.tokenize([["Hund"]])
    with pytest.raises(ValueError, match=r"`ids` must have shape \(batch, time\).*\(2,\)"):
        german.detokenize([4, 5])


# --- training


def test_training_is_deterministic_and_takes_any_iterable(german):
    assert SubwordTokenizer.train(iter(GERMAN), 60).model == german.model
    assert german.vocabulary_size == 60


def test_split_digits_gives_every_digit_an_id():
    texts = ["2021 2021 2021 2021", "2021 12 12", "2 0 1"] * 5
    row = SubwordTokenizer.train(texts, 8, split_digits=True).tokenize(["2021"])
    assert row.row_lengths().numpy().tolist() == [5]  # the mark of the space, then four digits
    row = SubwordTokenizer.train(texts, 9).tokenize(["2021"])
    assert row.row_lengths().numpy().tolist() == [1]


def test_case_folding_and_identity():
    folded = SubwordTokenizer.train(GERMAN, 56, normalization="nmt_nfkc_cf")
    assert folded.tokenize(["HUND"]).to_list() == folded.tokenize(["hund"]).to_list()
    plain = SubwordTokenizer.train(GERMAN, 60, normalization="identity")
    assert plain.tokenize(["HUND"]).to_list() != plain.tokenize(["Hund"]).to_list()
    assert len(plain.model) < 5_000 < 200_000 < len(folded.model)


def test_long_lines_are_used():
    long_line = "Hund " * 2000 + "x"  # sentencepiece skips lines of more than 4192 bytes
    pieces = SubwordTokenizer.train(["Hund", long_line], 11).pieces(range(11)).numpy()
    assert b"x" in pieces


def test_more_texts_than_the_maximum_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(subword_tokenizer, "MAX_TRAINING_TEXTS", 3)
    thinned = SubwordTokenizer.train(["aa", "b", "ab", "c", "ba", "d"], 7)
    assert set(thinned.pieces(range(4, 7)).numpy()) == {b"a", b"b", "▁".encode()}


@pytest.mark.parametrize("model_type", ["unigram", "char"])
def test_a_vocabulary_larger_than_the_text_allows(model_type):
    with pytest.raises(ValueError, match="at most .*Received: 5000") as caught:
        SubwordTokenizer.train(GERMAN, 5000, model_type=model_type)
    largest = int(str(caught.value).split("at most ")[1].split(",")[0])
    tokenizer = SubwordTokenizer.train(GERMAN, largest, model_type=model_type)
    assert tokenizer.vocabulary_size == largest
    with pytest.raises(ValueError, match=f"at most {largest}, .*Received: {largest + 1}"):
        SubwordTokenizer.train(GERMAN, largest + 1, model_type=model_type)


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_a_size_that_is_no_more_than_the_most(model_type):
    """As many subwords as the text holds: one more raises, where the size is exact."""
    most = SubwordTokenizer.train(GERMAN, 8000, exact=False, model_type=model_type)
    size = most.vocabulary_size
    exact = SubwordTokenizer.train(GERMAN, size, model_type=model_type)
    pieces = [one.pieces(tf.range(size)).numpy().tolist() for one in (most, exact)]
    assert pieces[0] == pieces[1]
    with pytest.raises(ValueError, match=f"`vocabulary_size` must be at most {size}"):
        SubwordTokenizer.train(GERMAN, size + 1, model_type=model_type)


def test_a_vocabulary_smaller_than_the_characters():
    with pytest.raises(ValueError, match=r"at least (\d+),.*Received: 10") as caught:
        SubwordTokenizer.train(GERMAN, 10)
    smallest = int(str(caught.value).split("at least ")[1].split(",")[0])
    assert SubwordTokenizer.train(GERMAN, smallest).vocabulary_size == smallest
    with pytest.raises(ValueError, match="at least"):
        SubwordTokenizer.train(GERMAN, smallest - 1)


@pytest.mark.parametrize(
    "texts, count", [([], 0), ([""], 1), (["", "  ", "\t\n▁"], 3), (["\u200b", "\u3000"], 2)]
)
def test_no_text_to_train_on(texts, count):
    with pytest.raises(ValueError, match=f"{count} texts"):
        SubwordTokenizer.train(texts, 10)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"model_type": "word"}, "unigram, bpe, char.*Received: 'word'"),
        ({"model_type": "char", "byte_fallback": True}, "`byte_fallback` must be False"),
        ({"byte_fallback": True, "vocabulary_size": 200}, "at least 301.*Received: 200"),
        ({"normalization": "nfd"}, "nmt_nfkc.*identity.*Received: 'nfd'"),
        ({"vocabulary_size": 4}, "integer of at least 5. Received: 4"),
        ({"vocabulary_size": 80.0}, "integer.*Received: 80.0"),
        ({"character_coverage": 0.5}, "from 0.98 to 1.*Received: 0.5"),
        ({"character_coverage": 1.5}, "from 0.98 to 1.*Received: 1.5"),
    ],
)
def test_arguments_of_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        SubwordTokenizer.train(GERMAN, **{"vocabulary_size": 60, **arguments})


@pytest.mark.parametrize("texts", ["Hund", ["Hund", 3], ["Hund", b"Hund"]])
def test_texts_must_be_strings(texts):
    with pytest.raises(TypeError, match="str"):
        SubwordTokenizer.train(texts, 10)


def test_training_is_quiet(capfd):
    SubwordTokenizer.train(GERMAN, 60, normalization="identity").tokenize(["Hund"])
    assert capfd.readouterr() == ("", "")


# --- files and models


def test_save_and_load(german, tmp_path):
    path = tmp_path / "de.model"
    german.save(path)
    loaded = SubwordTokenizer.load(str(path))
    assert loaded.model == german.model
    assert loaded.tokenize(GERMAN).to_list() == german.tokenize(GERMAN).to_list()
    assert [file.name for file in tmp_path.iterdir()] == ["de.model"]


def test_save_and_load_where_a_scheme_leads(german, english):
    path = f"ram://{uuid.uuid4().hex}/tokenizers/de.model"
    german.save(path)
    assert SubwordTokenizer.load(path).model == german.model
    with pytest.raises(FileExistsError, match=r"de\.model.*overwrite=True"):
        english.save(path)
    english.save(path, overwrite=True)
    assert SubwordTokenizer.load(path).model == english.model


def test_texts_and_ids_may_be_any_iterable(german):
    ids = german.tokenize(GERMAN).to_list()
    for texts in (iter(GERMAN), Labelled(GERMAN), np.array(GERMAN)):
        assert german.tokenize(texts).to_list() == ids
    rows = [row[:2] for row in ids]
    texts = german.detokenize(rows).numpy().tolist()
    for given in (iter(rows), Labelled(rows), np.array(rows)):
        assert german.detokenize(given).numpy().tolist() == texts
    drawn = german.sample(GERMAN, 0.2, 3)
    assert german.sample(iter(GERMAN), np.float32(0.2), np.int64(3)) == drawn
    again = SubwordTokenizer.train(Labelled(GERMAN), np.int64(german.vocabulary_size))
    assert again.model == SubwordTokenizer.train(iter(GERMAN), german.vocabulary_size).model
    with pytest.raises(TypeError, match="`texts` must be a list of rows. Received one: 'Hund'"):
        german.tokenize("Hund")


def test_save_does_not_overwrite_unless_told(german, english, tmp_path):
    path = tmp_path / "de.model"
    german.save(path)
    with pytest.raises(FileExistsError, match=r"de\.model.*overwrite=True"):
        english.save(path)
    assert path.read_bytes() == german.model
    english.save(path, overwrite=True)
    assert path.read_bytes() == english.model


def test_a_failed_save_leaves_the_old_file(german, english, tmp_path, monkeypatch):
    path = tmp_path / "de.model"
    german.save(path)

    def full_disk(*args):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        english.save(path, overwrite=True)
    assert path.read_bytes() == german.model
    assert [file.name for file in tmp_path.iterdir()] == ["de.model"]


def test_load_without_a_file_or_a_model(german, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.model"):
        SubwordTokenizer.load(tmp_path / "missing.model")
    for content in (b"", b"This is no model.", b"\x00" * 100, german.model[:-100]):
        path = tmp_path / "wrong.model"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"wrong\.model.*[Nn]ot a SentencePiece model"):
            SubwordTokenizer.load(path)
    with pytest.raises(TypeError, match="bytes.*Received: str"):
        SubwordTokenizer("de.model")


def changed(tokenizer, part, **settings):
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)
    for name, value in settings.items():
        setattr(getattr(model, part), name, value)
    return model.SerializeToString()


@pytest.mark.parametrize(
    "part, settings, message",
    [
        ("trainer_spec", {"model_type": 3}, "type 'word' cannot run in the graph"),
        ("trainer_spec", {"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix=True"),
        ("normalizer_spec", {"add_dummy_prefix": False}, "add_dummy_prefix=False"),
        ("trainer_spec", {"pad_id": -1}, "padding id of a model must be 0. Received: -1"),
        ("trainer_spec", {"unk_id": 0}, "unknown id of a model must be 1. Received: 0"),
        ("trainer_spec", {"bos_id": 1}, "start id of a model must be 2. Received: 1"),
        ("trainer_spec", {"eos_id": 2}, "end id of a model must be 3. Received: 2"),
    ],
)
def test_models_that_the_graph_would_get_wrong_are_refused(german, part, settings, message):
    SubwordTokenizer(changed(german, part))  # as it is, the model passes
    with pytest.raises(ValueError, match=message):
        SubwordTokenizer(changed(german, part, **settings))


def piece(**settings):
    def attack(model):
        for name, value in settings.items():
            setattr(model.pieces[6], name, value)

    return attack


def table(content):
    return lambda model: setattr(model.normalizer_spec, "precompiled_charsmap", content)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (piece(score=float("nan")), "finite score. Received: .* and nan for id 6"),
        (piece(score=float("inf")), "finite score. Received: .* and inf for id 6"),
        (piece(piece=""), "1 to 1000 letters .*Received: '' and"),
        (piece(piece="x" * 1_000_000), "1 to 1000 letters .*Received: 'x{20}' and"),
        (piece(type=2), "Not a SentencePiece model .*unk is already defined"),
        (piece(type=5), "Not a SentencePiece model .*Invalid SentencePiece piece type"),
        (piece(type=6), "Not a SentencePiece model .*byte piece"),
        (lambda model: setattr(model.pieces[1], "type", 1), "Not a SentencePiece .*not defined"),
        (lambda model: model.pieces.__delitem__(slice(1, None)), "Not a Sentence.*not defined"),
        # These ended the process with SIGSEGV.
        (table(b"\4\0\0\0\xff\xff\xff\xffab\0"), "table of characters is cut off"),
        (table(b"\0\4\0\0" + b"\xff" * 1024 + b"ab\0"), "table of characters leads out"),
    ],
)
def test_a_model_that_the_libraries_cannot_run_names_its_file(german, tmp_path, attack, message):
    model = sentencepiece_model_pb2.ModelProto.FromString(german.model)
    attack(model)
    (tmp_path / "a.model").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=rf"a\.model': .*{message}"):
        SubwordTokenizer.load(tmp_path / "a.model")


# --- export

IN_A_FRESH_PROCESS = """
import json, sys
import tensorflow as tf
import tensorflow_text
loaded = tf.saved_model.load(sys.argv[1])
assert not [name for name in sys.modules if name.startswith(("keras_luong", "sentencepiece"))]
def plain(outputs):
    return {key: [[repr(x) for x in row.ravel()] for row in tensor.numpy()[:, None]]
            for key, tensor in sorted(outputs.items())}
for batch in json.loads(sys.argv[2]):
    texts = tf.constant([bytes.fromhex(text) for text in batch], tf.string)
    outputs = plain(loaded(texts))
    assert plain(loaded.signatures["serving_default"](text=texts)) == outputs
    print(json.dumps(outputs))
"""


class TwoTokenizers(tf.Module):
    def __init__(self, source, target):
        super().__init__()
        self.source, self.target = source, target

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text):
        outputs = {}
        for name, tokenizer in (("source", self.source), ("target", self.target)):
            ids = tokenizer.tokenize(text).to_tensor(PADDING_ID)
            outputs[f"{name}_ids"] = ids
            outputs[f"{name}_text"] = tokenizer.detokenize(ids)
            outputs[f"{name}_pieces"] = tokenizer.pieces(ids)
        return outputs


def plain(outputs):
    return {
        key: [[repr(x) for x in row.ravel()] for row in tensor.numpy()[:, None]]
        for key, tensor in sorted(outputs.items())
    }


# Two resources of BPE, which must not be taken for one, as well.
@pytest.mark.parametrize("names", [("german", "english"), ("bpe", "bpe_with_bytes")])
def test_the_same_ids_in_training_and_export(names, request, tmp_path):
    german, english = map(request.getfixturevalue, names)
    texts = [text.encode() for text in GERMAN + ENGLISH + ODD[:-2] + random_texts(100)] + [b"\xff"]
    module = TwoTokenizers(german, english)
    tf.saved_model.save(module, str(tmp_path / "export"), signatures=module.__call__)
    batches = [texts, [b"", b""], []]
    ran = subprocess.run(
        [
            *(sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path / "export")),
            json.dumps([[text.hex() for text in batch] for batch in batches]),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert ran.returncode == 0, ran.stderr
    expected = [plain(module(tf.constant(batch, tf.string))) for batch in batches]
    assert [json.loads(line) for line in ran.stdout.splitlines()] == expected
    # What ran in the graph is what the tokenizers say outside it, and the two differ.
    outputs = module(tf.constant(texts))
    for name, tokenizer in (("source", german), ("target", english)):
        eager = tokenizer.tokenize(texts)
        assert np.array_equal(outputs[f"{name}_ids"], eager.to_tensor(PADDING_ID))
    assert outputs["source_text"][0] == GERMAN[0].encode()
    assert outputs["source_ids"][0].numpy().tolist() != outputs["target_ids"][0].numpy().tolist()


def segmentations(word, scores):
    """All ways to make a word of pieces, by ids, with their log-probabilities."""
    if not word:
        return {(): 0.0}
    return {
        (id_, *rest): score + of_rest
        for piece, (id_, score) in scores.items()
        if word.startswith(piece)
        for rest, of_rest in segmentations(word[len(piece) :], scores).items()
    }


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_samples_have_the_probabilities_of_the_paper(german, alpha):
    model = sentencepiece_model_pb2.ModelProto.FromString(german.model)
    scores = {
        piece.piece: (id_, piece.score) for id_, piece in enumerate(model.pieces) if id_ > END_ID
    }
    of_all = segmentations("▁Hunde▁laufen▁durch▁die▁Stadt", scores)
    assert len(of_all) > 8
    weights = {ids: np.exp(alpha * score) for ids, score in of_all.items()}
    total, count, text = sum(weights.values()), 20_000, "Hunde laufen durch die Stadt"
    drawn = collections.Counter(map(tuple, german.sample([text] * count, alpha, seed=3)))
    assert set(drawn) <= set(weights)
    expected = {ids: count * weight / total for ids, weight in weights.items()}
    # What is expected a few times is not normally distributed: all of that is looked at as one, and
    # may have five draws more, because there may be less than one to expect.
    often = [ids for ids in expected if expected[ids] >= 20]
    assert len(often) >= 5
    groups = [*(([ids], 0) for ids in often), (list(expected.keys() - often), 5)]
    for group, more in groups:
        mean, seen = (sum(counts[ids] for ids in group) for counts in (expected, drawn))
        # Five standard deviations.
        assert abs(seen - mean) < 5 * np.sqrt(mean * (1 - mean / count)) + more


def test_samples_spell_the_text_and_go_to_the_best_where_alpha_is_large(german):
    texts = [*GERMAN, *ODD, *random_texts(50)]
    drawn = tf.ragged.constant(german.sample(texts, 0.1, 5), tf.int32, row_splits_dtype=tf.int64)
    best = german.tokenize(texts)
    assert drawn.to_list() != best.to_list()
    written = (german.detokenize(ids).numpy().tolist() for ids in (drawn, best))
    for one, other in zip(*written, strict=True):
        # Several unknown characters in a row are one id, or several, as it falls out.
        assert one.replace(" ⁇ ".encode(), b"") == other.replace(" ⁇ ".encode(), b"")
    assert german.sample(GERMAN, 1e6, 5) == german.tokenize(GERMAN).to_list()


@pytest.mark.parametrize("normalization", ["nmt_nfkc", "nmt_nfkc_cf", "identity"])
def test_samples_are_of_the_text_that_is_tokenized(normalization):
    tokenizer = SubwordTokenizer.train(GERMAN, 310, byte_fallback=True, normalization=normalization)
    texts = [*GERMAN, *ODD, "Die  Hunde\tlaufen\u3000\n", "▁Die▁ ▁Stadt", " x ", "ＤＩＥ Ⅷ"]
    # The most probable segmentation, where alpha is large.
    assert tokenizer.sample(texts, 1e6, 5) == tokenizer.tokenize(texts).to_list()


def test_samples_depend_on_their_seed_alone(german, english):
    first = german.sample(GERMAN, 0.1, 7)
    assert german.sample(GERMAN, 0.1, 8) != first
    english.sample(ENGLISH, 0.1, 9)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(german.sample, GERMAN, 0.1, 7 + i % 2) for i in range(20)]
        assert all(job.result() == first for job in jobs[::2])
    assert german.sample([], 0.1, 7) == []
    for seed in (-1, 2**32 - 1, 2**70):
        assert german.sample(GERMAN, 0.1, seed) == german.sample(GERMAN, 0.1, seed)


@pytest.mark.parametrize("alpha", [0.0, -0.1, float("nan"), float("inf")])
def test_wrong_alphas(german, alpha):
    with pytest.raises(ValueError, match=f"finite number above 0. Received: {alpha}"):
        german.sample(GERMAN, alpha, 1)


def test_characters_cannot_be_sampled():
    tokenizer = SubwordTokenizer.train(GERMAN, 45, model_type="char")
    with pytest.raises(ValueError, match="'char' has one segmentation"):
        tokenizer.sample(GERMAN, 0.1, 1)


def test_in_a_data_pipeline(german):
    dataset = tf.data.Dataset.from_tensor_slices(GERMAN).batch(2).map(german.tokenize)
    assert [row for ids in dataset for row in ids.to_list()] == german.tokenize(GERMAN).to_list()


def test_a_long_text_is_trained_on_in_parts():
    """Of 280,000 bytes sentencepiece takes more than a minute, if they are one."""
    tokenizer = SubwordTokenizer.train(["one two three " * 20_000], 14)
    assert tokenizer.detokenize(tokenizer.tokenize(["two one"])).numpy() == [b"two one"]


@pytest.mark.parametrize("text", ["ein Hund läuft " * 900, "ä" * 9000, "a" * 4096])
def test_the_parts_of_a_text(text):
    parts = list(subword_tokenizer._parts(text.encode()))
    assert b"".join(parts) == text.encode()
    assert all(len(part) <= 4096 and part.decode() for part in parts)
    assert len(parts) <= 2 + len(text.encode()) // 4096
    assert [part[0] for part in parts[1:]] == list(b" " if b" " in parts[0] else parts[0][:1]) * (
        len(parts) - 1
    )
