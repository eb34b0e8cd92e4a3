"""What stands in a translation for words that the target vocabulary cannot write."""

import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import sentencepiece

from keras_luong.ids import END_ID, PADDING_ID, START_ID, UNKNOWN_ID
from keras_luong.serving.translation import Translation
from keras_luong.text import SubwordTokenizer
from keras_luong.text.subword_tokenizer import check_tokenizers

_WORD_START = "\u2581"
# What `SubwordTokenizer.detokenize` writes for the unknown id.
_UNKNOWN_TEXT = " \u2047 "
# Where the tokenizer sees spaces that sentencepiece's own encoder does not.
_SPACES = re.compile("[\t\n\v\f\r\u2581]")
# Scripts that put no spaces between words: Thai to Burmese, Khmer, kana and Han. Of them a subword
# is taken alone, for what stands between two spaces is a whole sentence.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


class _Span(NamedTuple):
    begin: int
    end: int


class UnknownWords:
    """Replaces what a translation could not write by the source words that it looked at.

    A generated unknown id looked most at one subword of the source. The source word around it, or
    what the dictionary has for that word, takes the place of the whole target word that holds the
    unknown id: of `"na⁇ve"`, not of the `"⁇"` in it. A word is what stands between spaces, without
    punctuation at its ends; in scripts without spaces it is the subword. Where nothing of the
    source was looked at, the unknown id stays.

    Args:
        source_tokenizer: Of what is read.
        target_tokenizer: Of what is written.
        dictionary: Target words by source word, spelled as in the text.

    Example:

    >>> import numpy as np
    >>> from keras_luong import SubwordTokenizer
    >>> tokenizer = SubwordTokenizer.train(["to go", "ago"], 9, model_type="char")
    >>> tokens = ["▁", "t", "o", "▁", "<unk>", "</s>"]
    >>> one = Translation("to ⁇ ", -1.0, tokens, tokens, np.eye(6), -1.0)
    >>> UnknownWords(tokenizer, tokenizer)("to 犬", one).text
    'to 犬'
    >>> UnknownWords(tokenizer, tokenizer, {"犬": "dog"})("to 犬", one).text
    'to dog'

    Reference:
        Luong et al. 2015b, "Addressing the Rare Word Problem in Neural Machine Translation",
        [arXiv:1410.8206](https://arxiv.org/abs/1410.8206), section 3.
    """

    def __init__(
        self,
        source_tokenizer: SubwordTokenizer,
        target_tokenizer: SubwordTokenizer,
        dictionary: Mapping[str, str] | None = None,
    ) -> None:
        check_tokenizers(source_tokenizer=source_tokenizer, target_tokenizer=target_tokenizer)
        # This encoder, unlike the one in the graph, says which characters a subword was made of.
        self._encoder = sentencepiece.SentencePieceProcessor(model_proto=source_tokenizer.model)
        names = target_tokenizer.pieces([UNKNOWN_ID, PADDING_ID, START_ID, END_ID]).numpy()
        self._unknown, *self._silent = (name.decode() for name in names)
        self._dictionary = dictionary or {}

    def __call__(self, source_text: str, translation: Translation) -> Translation:
        """The translation of `source_text` with another `text`, where one of its tokens is unknown.

        Args:
            source_text: What was translated.
            translation: How.
        """
        if self._unknown not in translation.target_tokens:
            return translation
        source_text = _SPACES.sub(" ", source_text)
        spans = self._source_spans(source_text)
        text, unknown = self._target_text(translation.target_tokens)
        parts, written = [], 0
        for span, step in unknown:
            if span.begin < written:
                continue  # in a word that is replaced already
            source_word = self._source_word(source_text, spans, translation.attention_scores[step])
            if source_word is None:
                word, source_word = span, _UNKNOWN_TEXT
            else:
                word = _word(text, span)
            parts += [text[written : word.begin], source_word]
            written = word.end
        # The detokenizer too drops the space before the first word.
        text = "".join([*parts, text[written:]]).removeprefix(" ")
        return translation._replace(text=text)

    def _source_spans(self, text: str) -> list[_Span]:
        """The characters of a text that each of its subwords was made of."""
        in_bytes = text.encode()

        def place(byte: int) -> int:
            return len(in_bytes[:byte].decode())

        pieces = self._encoder.encode(text, out_type="proto").pieces
        return [_Span(place(piece.begin), place(piece.end)) for piece in pieces]

    def _target_text(self, tokens: list[str]) -> tuple[str, list[tuple[_Span, int]]]:
        """The text of tokens, a letter for each unknown one; where those stand, and their steps."""
        text, unknown = "", []
        for step, token in enumerate(tokens):
            if token == self._unknown:
                unknown.append((_Span(len(text), len(text) + 1), step))
                text += "x"
            elif token not in self._silent:
                text += token.replace(_WORD_START, " ")
        return text, unknown

    def _source_word(self, text: str, spans: list[_Span], scores: np.ndarray) -> str | None:
        """What is written for the source word that got the highest score, if any got one."""
        scores = scores[: len(spans)]  # the end token, and what was cut off, are no words
        if not np.any(scores > 0):
            return None
        span = spans[int(np.argmax(scores))]
        # A subword may be of spaces alone, or of nothing: it stands for the word after it.
        spaces = len(text) - span.begin - len(text[span.begin :].lstrip())
        begin = span.begin + spaces
        word = text[slice(*_word(text, _Span(begin, max(begin + 1, span.end))))]
        return self._dictionary.get(word, word)


def _word(text: str, span: _Span) -> _Span:
    """The word of which some characters are given."""
    begin, end = span
    if not _UNSPACED.search(text[begin:end]):
        while begin > 0 and _joins(text[begin - 1]):
            begin -= 1
        while end < len(text) and _joins(text[end]):
            end += 1
    bare = [place for place in range(begin, end) if not _is_punctuation(text[place])]
    return _Span(bare[0], bare[-1] + 1) if bare else _Span(begin, end)


def _joins(character: str) -> bool:
    return not character.isspace() and not _UNSPACED.match(character)


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
