"""Trains a small translator under XLA and prints how often its loss was traced: `counting FOLDER`.

Run with `XLA_FLAGS=--xla_dump_to=...` it leaves a file for every program that XLA compiles.
"""

import json

from keras_luong import MaskedCrossentropy, SubwordTokenizer, Translator, luong_seq2seq

WORDS = ("one", "two", "three")
LENGTHS = (1, 1, 2, 7, 7, 8)  # two buckets, of 3 and 9 with the end


class Counted(MaskedCrossentropy):
    """A loss that counts how often Python runs it: once a trace."""

    traces = 0

    def call(self, *arguments):
        Counted.traces += 1
        return super().call(*arguments)


def main():
    texts = [
        " ".join(WORDS[(first + i) % 3] for i in range(n)) for n in LENGTHS for first in range(3)
    ]
    pairs = [(text, text) for text in texts]
    tokenizer = SubwordTokenizer.train(texts, 15)
    model = luong_seq2seq(15, 15, units=4)
    model.compile("adam", loss=Counted(), jit_compile=True)
    translator = Translator(model, tokenizer, tokenizer, max_length=20)
    traces = []
    for epochs in (1, 2):
        translator.fit(pairs, epochs=epochs, batch_size=3, buckets=2, verbose=0)
        traces.append(Counted.traces)
    print(json.dumps(traces))


if __name__ == "__main__":
    main()
