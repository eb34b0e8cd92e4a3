"""What says which pairs a model was trained on."""

import hashlib

from keras_luong.text.fingerprint import Fingerprint, fingerprint_of


def test_sums_are_those_of_the_files(tmp_path):
    pairs = [("ein Hund", "a dog"), ("", "nothing"), ("läuft", "runs")]
    (tmp_path / "de").write_text("ein Hund\n\nläuft\n", encoding="utf-8")
    (tmp_path / "en").write_text("a dog\nnothing\nruns\n", encoding="utf-8")
    of_files = [hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("de", "en")]
    fingerprint = Fingerprint()
    assert list(fingerprint.of(iter(pairs))) == pairs
    assert list(fingerprint.facts().values()) == [3, *of_files]
    assert fingerprint_of(iter(pairs)) == fingerprint.facts()


def test_no_pairs():
    nothing = hashlib.sha256(b"").hexdigest()
    assert fingerprint_of([]) == {"pairs": 0, "source_sha256": nothing, "target_sha256": nothing}
