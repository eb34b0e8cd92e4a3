"""Written dates and what they mean: the sentence pairs that the dates demo learns from.

A source is a date as people write it in English, German, French or Spanish, a target is the same
date in ISO 8601. Every source can be read with three rules:

- Numeric dates are day-first (`3/5/21` is the third of May) unless the text itself marks another
  order: a four-digit year in front is followed by month and day, and `US` or `mm/dd/yyyy` puts
  the month first.
- Two-digit years stand for 1970 to 2069: from 70 on they belong to the 1900s, up to 69 to the
  2000s. No date outside these years is ever written, so the rule has no exception.
- A weekday, where one is written, is the true one.

Week numbers and days of the year are left out: they need calendar arithmetic, not translation.

The calendar is divided once into training dates and held-out dates, and a held-out date is in no
training pair, in no format.

    python examples/written_dates.py --count 10
"""

import argparse
import datetime
import random
import string
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

FIRST_YEAR = 1970
LAST_YEAR = 2069

# About a ninth of the calendar is held out: enough for many dates in each format, and few enough
# that training still sees every year, month and day often.
HELD_OUT_DATES = 4000
SPLIT_SEED = 1

Item = TypeVar("Item")


class Words(NamedTuple):
    """How one language writes the parts of a date; January, Monday and the 1st come first."""

    months: Sequence[str]
    short_months: Sequence[str]
    weekdays: Sequence[str]
    short_weekdays: Sequence[str]
    day_numbers: Sequence[str]
    day_words: Sequence[str]


def listed(text: str) -> list[str]:
    """Returns the names that the text lists with commas between them."""
    return text.split(", ")


def english_ordinal(day: int) -> str:
    """Returns the day with its English ending.

    Example:
        >>> [english_ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 30)]
        ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '30th']
    """
    if day in (11, 12, 13):
        return f"{day}th"
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{day}{endings.get(day % 10, 'th')}"


DAYS = range(1, 32)

ENGLISH = Words(
    months=listed(
        "January, February, March, April, May, June, July, August, September, October, November, "
        "December"
    ),
    short_months=listed("Jan, Feb, Mar, Apr, May, Jun, Jul, Aug, Sep, Oct, Nov, Dec"),
    weekdays=listed("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    short_weekdays=listed("Mon, Tue, Wed, Thu, Fri, Sat, Sun"),
    day_numbers=[english_ordinal(day) for day in DAYS],
    day_words=listed(
        "first, second, third, fourth, fifth, sixth, seventh, eighth, ninth, tenth, eleventh, "
        "twelfth, thirteenth, fourteenth, fifteenth, sixteenth, seventeenth, eighteenth, "
        "nineteenth, twentieth, twenty-first, twenty-second, twenty-third, twenty-fourth, "
        "twenty-fifth, twenty-sixth, twenty-seventh, twenty-eighth, twenty-ninth, thirtieth, "
        "thirty-first"
    ),
)

GERMAN = Words(
    months=listed(
        "Januar, Februar, März, April, Mai, Juni, Juli, August, September, Oktober, November, "
        "Dezember"
    ),
    short_months=listed("Jan., Feb., März, Apr., Mai, Juni, Juli, Aug., Sept., Okt., Nov., Dez."),
    weekdays=listed("Montag, Dienstag, Mittwoch, Donnerstag, Freitag, Samstag, Sonntag"),
    short_weekdays=listed("Mo, Di, Mi, Do, Fr, Sa, So"),
    day_numbers=[f"{day}." for day in DAYS],
    day_words=listed(
        "erste, zweite, dritte, vierte, fünfte, sechste, siebte, achte, neunte, zehnte, elfte, "
        "zwölfte, dreizehnte, vierzehnte, fünfzehnte, sechzehnte, siebzehnte, achtzehnte, "
        "neunzehnte, zwanzigste, einundzwanzigste, zweiundzwanzigste, dreiundzwanzigste, "
        "vierundzwanzigste, fünfundzwanzigste, sechsundzwanzigste, siebenundzwanzigste, "
        "achtundzwanzigste, neunundzwanzigste, dreißigste, einunddreißigste"
    ),
)

FRENCH = Words(
    months=listed(
        "janvier, février, mars, avril, mai, juin, juillet, août, septembre, octobre, novembre, "
        "décembre"
    ),
    short_months=listed(
        "janv., févr., mars, avr., mai, juin, juil., août, sept., oct., nov., déc."
    ),
    weekdays=listed("lundi, mardi, mercredi, jeudi, vendredi, samedi, dimanche"),
    short_weekdays=listed("lun., mar., mer., jeu., ven., sam., dim."),
    day_numbers=["1er", *(str(day) for day in DAYS[1:])],
    day_words=listed(
        "premier, deux, trois, quatre, cinq, six, sept, huit, neuf, dix, onze, douze, treize, "
        "quatorze, quinze, seize, dix-sept, dix-huit, dix-neuf, vingt, vingt et un, vingt-deux, "
        "vingt-trois, vingt-quatre, vingt-cinq, vingt-six, vingt-sept, vingt-huit, vingt-neuf, "
        "trente, trente et un"
    ),
)

SPANISH = Words(
    months=listed(
        "enero, febrero, marzo, abril, mayo, junio, julio, agosto, septiembre, octubre, noviembre, "
        "diciembre"
    ),
    short_months=listed("ene, feb, mar, abr, may, jun, jul, ago, sep, oct, nov, dic"),
    weekdays=listed("lunes, martes, miércoles, jueves, viernes, sábado, domingo"),
    short_weekdays=listed("lun, mar, mié, jue, vie, sáb, dom"),
    day_numbers=[str(day) for day in DAYS],
    day_words=listed(
        "primero, dos, tres, cuatro, cinco, seis, siete, ocho, nueve, diez, once, doce, trece, "
        "catorce, quince, dieciséis, diecisiete, dieciocho, diecinueve, veinte, veintiuno, "
        "veintidós, veintitrés, veinticuatro, veinticinco, veintiséis, veintisiete, veintiocho, "
        "veintinueve, treinta, treinta y uno"
    ),
)

ROMAN_MONTHS = listed("I, II, III, IV, V, VI, VII, VIII, IX, X, XI, XII")

Field = Callable[[datetime.date, Words], str]

# What a template may hold in braces. Fields that are names or words depend on the language, and so
# does `day`, the day's number with the ending or dot that the language puts after it.
FIELDS: dict[str, Field] = {
    "d": lambda date, words: str(date.day),
    "dd": lambda date, words: f"{date.day:02}",
    "m": lambda date, words: str(date.month),
    "mm": lambda date, words: f"{date.month:02}",
    "yy": lambda date, words: f"{date.year % 100:02}",
    "yyyy": lambda date, words: str(date.year),
    "roman": lambda date, words: ROMAN_MONTHS[date.month - 1],
    "day": lambda date, words: words.day_numbers[date.day - 1],
    "day_words": lambda date, words: words.day_words[date.day - 1],
    "month": lambda date, words: words.months[date.month - 1],
    "short_month": lambda date, words: words.short_months[date.month - 1],
    "weekday": lambda date, words: words.weekdays[date.weekday()],
    "short_weekday": lambda date, words: words.short_weekdays[date.weekday()],
}


def parse_template(template: str) -> list[tuple[str, Field | None]]:
    """Splits a template into pieces of fixed text, each with the field that follows it, if any."""
    return [
        (text, FIELDS[name] if name else None)
        for text, name, _, _ in string.Formatter().parse(template)
    ]


class DateFormat:
    """A way to write dates: one template, or several that differ in small things like a comma.

    Args:
        *templates: Texts with names from `FIELDS` in braces.
        words: The language of the names.
        case: Applied to the finished text, for example `str.upper`.

    Example:
        >>> write = DateFormat("{weekday}, {day} {month} {yyyy}", words=GERMAN)
        >>> write(datetime.date(2021, 5, 3), random.Random(0))
        'Montag, 3. Mai 2021'
    """

    def __init__(
        self, *templates: str, words: Words = ENGLISH, case: Callable[[str], str] = str
    ) -> None:
        self.templates = [parse_template(template) for template in templates]
        self.words = words
        self.case = case

    def __call__(self, date: datetime.date, rng: random.Random) -> str:
        """Writes the date with one of the templates."""
        return self._fill(pick(self.templates, rng), date)

    def spellings(self, date: datetime.date) -> list[str]:
        """Returns everything that the format can write for this date.

        Example:
            >>> FORMATS["us"].spellings(datetime.date(2021, 5, 3))
            ['5/3/2021 (US)', 'US: 5/3/2021']
        """
        return [self._fill(template, date) for template in self.templates]

    def _fill(self, template: list[tuple[str, Field | None]], date: datetime.date) -> str:
        return self.case(
            "".join([text + field(date, self.words) if field else text for text, field in template])
        )


FORMATS: dict[str, DateFormat] = {
    # Numbers, largest part first.
    "iso": DateFormat("{yyyy}-{mm}-{dd}"),
    "compact": DateFormat("{yyyy}{mm}{dd}"),
    "year-first slashes": DateFormat("{yyyy}/{mm}/{dd}"),
    "year-first dots": DateFormat("{yyyy}.{mm}.{dd}", "{yyyy}.{m}.{d}"),
    # Numbers, day-first.
    "dots": DateFormat("{d}.{m}.{yyyy}"),
    "dots padded": DateFormat("{dd}.{mm}.{yyyy}"),
    "dots short year": DateFormat("{d}.{m}.{yy}", "{dd}.{mm}.{yy}"),
    "slashes": DateFormat("{d}/{m}/{yyyy}"),
    "slashes padded": DateFormat("{dd}/{mm}/{yyyy}"),
    "slashes short year": DateFormat("{d}/{m}/{yy}", "{dd}/{mm}/{yy}"),
    "dashes": DateFormat("{d}-{m}-{yyyy}", "{dd}-{mm}-{yyyy}"),
    "spaces": DateFormat("{dd} {mm} {yyyy}"),
    "roman month": DateFormat("{d}.{roman}.{yyyy}", "{d} {roman} {yyyy}"),
    # Numbers, month-first: the text says so.
    "us": DateFormat("{m}/{d}/{yyyy} (US)", "US: {m}/{d}/{yyyy}"),
    "us padded": DateFormat("{mm}/{dd}/{yyyy} (US)", "US: {mm}/{dd}/{yyyy}"),
    "us short year": DateFormat("{m}/{d}/{yy} (US)", "US: {m}/{d}/{yy}"),
    "us labelled": DateFormat("{mm}/{dd}/{yyyy} (mm/dd/yyyy)"),
    # English.
    "en day month": DateFormat("{d} {month} {yyyy}", "{dd} {month} {yyyy}"),
    "en month day": DateFormat("{month} {d}, {yyyy}", "{month} {d} {yyyy}"),
    "en ordinal month": DateFormat("{day} {month} {yyyy}", "the {day} of {month} {yyyy}"),
    "en month ordinal": DateFormat("{month} {day}, {yyyy}", "{month} the {day}, {yyyy}"),
    "en words": DateFormat(
        "the {day_words} of {month} {yyyy}", "the {day_words} of {month}, {yyyy}"
    ),
    "en month words": DateFormat("{month} the {day_words}, {yyyy}", "{month} {day_words}, {yyyy}"),
    "en year month day": DateFormat("{yyyy} {month} {d}", "{yyyy}, {month} {d}"),
    "en short month": DateFormat("{d} {short_month} {yyyy}", "{short_month} {d}, {yyyy}"),
    "en short dashes": DateFormat("{dd}-{short_month}-{yyyy}"),
    "en short year": DateFormat("{d} {month} '{yy}", "{short_month} {day}, '{yy}"),
    "en weekday": DateFormat("{weekday}, {d} {month} {yyyy}", "{weekday} {day} {month} {yyyy}"),
    "en weekday month": DateFormat("{weekday}, {month} {d}, {yyyy}"),
    "en short weekday": DateFormat("{short_weekday}, {dd} {short_month} {yyyy}"),
    "en weekday numbers": DateFormat(
        "{short_weekday} {d}/{m}/{yy}", "{short_weekday} {dd}/{mm}/{yyyy}"
    ),
    "en upper": DateFormat("{d} {month} {yyyy}", "{month} {day}, {yyyy}", case=str.upper),
    "en upper compact": DateFormat("{dd}{short_month}{yyyy}", case=str.upper),
    "en lower": DateFormat("{d} {month} {yyyy}", "{short_month} {d}, {yyyy}", case=str.lower),
    # German.
    "de": DateFormat("{day} {month} {yyyy}", "am {day} {month} {yyyy}", words=GERMAN),
    "de short month": DateFormat("{day} {short_month} {yyyy}", words=GERMAN),
    "de words": DateFormat("der {day_words} {month} {yyyy}", words=GERMAN),
    "de weekday": DateFormat(
        "{weekday}, {day} {month} {yyyy}", "{weekday}, den {day} {month} {yyyy}", words=GERMAN
    ),
    "de weekday numbers": DateFormat(
        "{short_weekday}, {dd}.{mm}.{yyyy}", "{short_weekday} {d}.{m}.{yy}", words=GERMAN
    ),
    # French.
    "fr": DateFormat("{day} {month} {yyyy}", "le {day} {month} {yyyy}", words=FRENCH),
    "fr short month": DateFormat("{day} {short_month} {yyyy}", words=FRENCH),
    "fr words": DateFormat("le {day_words} {month} {yyyy}", words=FRENCH),
    "fr weekday": DateFormat(
        "{weekday} {day} {month} {yyyy}", "le {weekday} {day} {month} {yyyy}", words=FRENCH
    ),
    "fr weekday numbers": DateFormat("{short_weekday} {dd}/{mm}/{yyyy}", words=FRENCH),
    # Spanish.
    "es": DateFormat("{day} de {month} de {yyyy}", "el {day} de {month} de {yyyy}", words=SPANISH),
    "es short month": DateFormat(
        "{day} {short_month} {yyyy}", "{dd}-{short_month}-{yyyy}", words=SPANISH
    ),
    "es words": DateFormat("el {day_words} de {month} de {yyyy}", words=SPANISH),
    "es weekday": DateFormat("{weekday}, {day} de {month} de {yyyy}", words=SPANISH),
    "es weekday numbers": DateFormat("{short_weekday} {d}/{m}/{yyyy}", words=SPANISH),
}


class DatePair(NamedTuple):
    """A written date, its ISO 8601 form and the name of the format in `FORMATS`."""

    source: str
    target: str
    format_name: str


class DateSplit(NamedTuple):
    """The calendar in two parts that share no date, each in the order of the calendar."""

    training: list[datetime.date]
    held_out: list[datetime.date]


# Of the random module, Python promises only that `random()` with an integer seed stays the same in
# every version, so the two functions below are all the chance there is in this file.


def pick(items: Sequence[Item], rng: random.Random) -> Item:
    """Returns one of the items, each with the same chance."""
    return items[int(rng.random() * len(items))]


def shuffled(items: Sequence[Item], rng: random.Random) -> list[Item]:
    """Returns the items in random order.

    Example:
        >>> shuffled("abcde", random.Random(0))
        ['d', 'c', 'e', 'b', 'a']
    """
    return sorted(items, key=lambda _: rng.random())


def all_dates() -> list[datetime.date]:
    """Returns every date of the calendar from 1970 to 2069.

    Example:
        >>> dates = all_dates()
        >>> len(dates), str(dates[0]), str(dates[-1])
        (36525, '1970-01-01', '2069-12-31')
    """
    first = datetime.date(FIRST_YEAR, 1, 1).toordinal()
    last = datetime.date(LAST_YEAR, 12, 31).toordinal()
    return [datetime.date.fromordinal(number) for number in range(first, last + 1)]


def split_dates(seed: int = SPLIT_SEED, held_out: int = HELD_OUT_DATES) -> DateSplit:
    """Divides the calendar into training dates and held-out dates.

    Args:
        seed: Decides which dates are held out.
        held_out: How many dates are held out.

    Returns:
        The two parts; no date is in both, and every date is in one.

    Raises:
        ValueError: If there are no dates left for one of the parts.

    Example:
        >>> split = split_dates()
        >>> len(split.training), len(split.held_out)
        (32525, 4000)
    """
    dates = all_dates()
    if not 0 < held_out < len(dates):
        raise ValueError(
            f"held_out must leave dates on both sides, so 1 to {len(dates) - 1}, got {held_out}."
        )
    order = shuffled(dates, random.Random(seed))
    return DateSplit(training=sorted(order[held_out:]), held_out=sorted(order[:held_out]))


def make_pair(date: datetime.date, format_name: str, rng: random.Random) -> DatePair:
    """Writes one date in one format.

    Example:
        >>> make_pair(datetime.date(1999, 12, 31), "en upper compact", random.Random(0))
        DatePair(source='31DEC1999', target='1999-12-31', format_name='en upper compact')
    """
    return DatePair(FORMATS[format_name](date, rng), date.isoformat(), format_name)


def training_pairs(count: int, seed: int = 0) -> list[DatePair]:
    """Returns random training dates in random formats; the same pair may come twice.

    The seed chooses among the training dates. It does not move the border between training and
    held-out dates, so training pairs and held-out pairs never share a date, whatever their seeds.

    Args:
        count: How many pairs.
        seed: Decides dates, formats and spellings.

    Raises:
        ValueError: If `count` is negative.

    Example:
        >>> pairs = training_pairs(1000)
        >>> pairs == training_pairs(1000), pairs == training_pairs(1000, seed=1)
        (True, False)
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}.")
    dates = split_dates().training
    names = list(FORMATS)
    rng = random.Random(seed)
    return [make_pair(pick(dates, rng), pick(names, rng), rng) for _ in range(count)]


def held_out_pairs(count: int = 2000, seed: int = 0) -> list[DatePair]:
    """Returns held-out dates, each once, spread evenly over all formats.

    As each date comes once and no text stands for two dates, no source comes twice. Formats take
    turns, so each is in the result equally often, give or take one.

    Args:
        count: How many pairs, at most as many as there are held-out dates.
        seed: Decides dates and spellings.

    Raises:
        ValueError: If `count` is negative or larger than the number of held-out dates.

    Example:
        >>> pairs = held_out_pairs()
        >>> len(pairs), len({pair.target for pair in pairs}), len({pair.source for pair in pairs})
        (2000, 2000, 2000)
    """
    dates = split_dates().held_out
    if not 0 <= count <= len(dates):
        raise ValueError(
            f"count must be 0 to {len(dates)}, the number of held-out dates, got {count}."
        )
    names = list(FORMATS)
    rng = random.Random(seed)
    return [
        make_pair(date, names[turn % len(names)], rng)
        for turn, date in enumerate(shuffled(dates, rng)[:count])
    ]


def main() -> None:
    """Prints samples of the training pairs, a pair a line: source, tab, target."""
    parser = argparse.ArgumentParser(description="Print written dates with their ISO 8601 form.")
    parser.add_argument("--count", type=int, default=10, help="how many pairs (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="which pairs (default: 0)")
    options = parser.parse_args()
    if options.count < 0:
        parser.error(f"--count must not be negative, got {options.count}")
    for pair in training_pairs(options.count, options.seed):
        print(pair.source, pair.target, sep="\t")


if __name__ == "__main__":
    main()
