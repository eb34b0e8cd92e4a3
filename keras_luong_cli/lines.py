"""Texts as lines."""


def one_line(text: str) -> str:
    r"""Puts a space for each line break in a text, whatever Python or another tool takes for one.

    A translation may hold `\n`, `\r` or U+2028, and all that follow it would be out of step with
    the lines that were translated.
    """
    return " ".join(text.splitlines())
