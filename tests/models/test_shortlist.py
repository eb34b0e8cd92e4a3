"""`generate` with a shortlist: all words change nothing, some rule out the rest."""

import keras
import numpy as np
import pytest

from keras_luong import BeamSearch, Ensemble, SamplingSearch, Shortlist
from keras_luong.ids import END_ID, START_ID
from tests.models.test_quantize import weights_alone
from tests.models.test_seq2seq import SOURCE, SOURCE_IDS, TARGET_IDS, fresh, generate, made

WHOLE = Shortlist(np.full((SOURCE_IDS, 1), -1), np.arange(TARGET_IDS))
# What follows the source ids 4 to 8; END_ID and START_ID always may.
PART = Shortlist([[-1, -1]] * 4 + [[4, 5], [6, -1], [7, 8], [9, 10], [5, 9]], [END_ID], size=4)
BEAM = BeamSearch(3, 3, length_penalty="gnmt", beta=0.1, banned_ids=(6,))
PREFIX = np.array([[4, 5], [10, -1], [-1, -1], [9, 9]], "int32")
PHRASES = np.array([[[4, 4]], [[10, 7]], [[-1, -1]], [[9, -1]]], "int32")


def assert_same(result, expected, atol=1e-4):
    np.testing.assert_array_equal(result.ids, expected.ids)
    np.testing.assert_array_equal(result.lengths, expected.lengths)
    for name in ("scores", "log_probs", "attention_scores"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), atol=atol)


@pytest.mark.parametrize(
    ("name", "search", "asked"),
    [
        ("untied", "greedy", {}),
        ("tied", BEAM, {"prefix": PREFIX}),
        ("tied", BeamSearch(5, 2), {"constraints": PHRASES}),
        ("untied", SamplingSearch(num_samples=2, top_k=5), {"seed": 3}),
    ],
    ids=["greedy", "beam", "phrases", "sampling"],
)
def test_the_whole_vocabulary_changes_nothing(name, search, asked):
    model = made(name)
    result = generate(model, search=search, shortlist=WHOLE, **asked)
    assert_same(result, generate(model, search=search, **asked))


def test_a_sentence_holds_its_own_words_alone_whatever_its_batch():
    model, together = made("tied"), generate(made("tied"), search=BEAM, shortlist=PART)
    plain = generate(model, search=BEAM)
    for row, ids in enumerate(SOURCE):
        own = {START_ID, END_ID, *PART.aligned[ids].ravel().tolist()}
        assert set(together.ids[row].ravel().tolist()) <= own
        alone = generate(model, SOURCE[row : row + 1], search=BEAM, shortlist=PART)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], atol=1e-4)
    assert (plain.ids != together.ids).any()


def test_a_part_is_all_with_the_rest_ruled_out():
    model, source = made("untied"), SOURCE[:1]
    ids, allowed = PART.of(source, TARGET_IDS, [[START_ID, END_ID]])
    result = generate(model, source, search="beam", shortlist=PART)
    ruled_out = fresh("untied")
    kernel, bias = ruled_out.head.get_weights()
    bias[np.setdiff1d(np.arange(TARGET_IDS), ids[allowed[0]])] = -1e9
    ruled_out.head.set_weights([kernel, bias])
    assert_same(result, generate(ruled_out, source, search="beam"))


def test_prefix_and_phrases_come_besides():
    result = generate(made("tied"), search=BeamSearch(4), shortlist=PART, prefix=PREFIX)
    forced = PREFIX >= 0
    np.testing.assert_array_equal(result.ids[:, 0, :2][forced], PREFIX[forced])
    result = generate(made("tied"), search=BeamSearch(6), shortlist=PART, constraints=PHRASES)
    for row, (phrase,) in enumerate(PHRASES):
        wanted = ",".join(map(str, phrase[phrase >= 0]))
        assert wanted in ",".join(map(str, result.ids[row, 0]))


@pytest.mark.parametrize("shortlist", [WHOLE, PART], ids=["whole", "part"])
def test_an_ensemble_has_one_shortlist(shortlist):
    both = Ensemble([made("tied"), made("stacked")])
    result = generate(both, search="beam", shortlist=shortlist)
    if shortlist is WHOLE:
        assert_same(result, generate(both, search="beam"))
    else:
        alone = generate(both, SOURCE[:1], search="beam", shortlist=shortlist)
        np.testing.assert_array_equal(alone.ids[0], result.ids[0])
        np.testing.assert_allclose(alone.scores[0], result.scores[0], atol=1e-4)


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_quantized_weights(name):
    model = fresh(name)
    model.quantize(config=weights_alone())
    assert_same(generate(model, shortlist=WHOLE), generate(model))


def test_no_rows_give_no_rows():
    nothing = np.zeros((0, 4), "int32")
    assert generate(made("tied"), nothing, shortlist=PART).ids.shape[0] == 0


def test_heads_whose_words_cannot_be_taken_one_by_one_are_refused():
    model = fresh("untied")
    model.quantize("int4")
    with pytest.raises(ValueError, match="shortlist needs a head.*Dense.*int4"):
        model.generate(SOURCE, shortlist=WHOLE)
    with pytest.raises(ValueError, match=r"from 0 to 8. Received: 11"):
        made("tied").generate(np.array([[11, 3]]), shortlist=PART)


@pytest.mark.traced
def test_few_sizes_are_compiled(monkeypatch):
    model, counts = fresh("tied"), []
    plain = type(model).step_among
    monkeypatch.setattr(
        type(model),
        "step_among",
        lambda self, word_ids: counts.append(int(word_ids.shape[0])) or plain(self, word_ids),
    )
    for rows in (SOURCE[3:], SOURCE[1:2], SOURCE[:2], SOURCE[:3], SOURCE[3:], SOURCE[1:2]):
        generate(model, rows, shortlist=PART)
    if keras.backend.backend() == "tensorflow":
        assert sorted(counts) == [4, 8, TARGET_IDS]
    assert set(counts) <= {4, 8, TARGET_IDS}
