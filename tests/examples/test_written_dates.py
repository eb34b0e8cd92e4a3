"""Checks the written dates against strings worked out by hand and against a reader of its own."""

import doctest
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from random import Random

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import written_dates  # noqa: E402
from written_dates import FORMATS  # noqa: E402

# Monday the third of May 2021, and Friday the 31st of December 1999.
MONDAY = date(2021, 5, 3)
FRIDAY = date(1999, 12, 31)

# Everything that each format may write for these two days, worked out by hand.
BY_HAND = {
    "iso": ({"2021-05-03"}, {"1999-12-31"}),
    "compact": ({"20210503"}, {"19991231"}),
    "year-first slashes": ({"2021/05/03"}, {"1999/12/31"}),
    "year-first dots": ({"2021.05.03", "2021.5.3"}, {"1999.12.31"}),
    "dots": ({"3.5.2021"}, {"31.12.1999"}),
    "dots padded": ({"03.05.2021"}, {"31.12.1999"}),
    "dots short year": ({"3.5.21", "03.05.21"}, {"31.12.99"}),
    "slashes": ({"3/5/2021"}, {"31/12/1999"}),
    "slashes padded": ({"03/05/2021"}, {"31/12/1999"}),
    "slashes short year": ({"3/5/21", "03/05/21"}, {"31/12/99"}),
    "dashes": ({"3-5-2021", "03-05-2021"}, {"31-12-1999"}),
    "spaces": ({"03 05 2021"}, {"31 12 1999"}),
    "roman month": ({"3.V.2021", "3 V 2021"}, {"31.XII.1999", "31 XII 1999"}),
    "us": ({"5/3/2021 (US)", "US: 5/3/2021"}, {"12/31/1999 (US)", "US: 12/31/1999"}),
    "us padded": ({"05/03/2021 (US)", "US: 05/03/2021"}, {"12/31/1999 (US)", "US: 12/31/1999"}),
    "us short year": ({"5/3/21 (US)", "US: 5/3/21"}, {"12/31/99 (US)", "US: 12/31/99"}),
    "us labelled": ({"05/03/2021 (mm/dd/yyyy)"}, {"12/31/1999 (mm/dd/yyyy)"}),
    "en day month": ({"3 May 2021", "03 May 2021"}, {"31 December 1999"}),
    "en month day": ({"May 3, 2021", "May 3 2021"}, {"December 31, 1999", "December 31 1999"}),
    "en ordinal month": (
        {"3rd May 2021", "the 3rd of May 2021"},
        {"31st December 1999", "the 31st of December 1999"},
    ),
    "en month ordinal": (
        {"May 3rd, 2021", "May the 3rd, 2021"},
        {"December 31st, 1999", "December the 31st, 1999"},
    ),
    "en words": (
        {"the third of May 2021", "the third of May, 2021"},
        {"the thirty-first of December 1999", "the thirty-first of December, 1999"},
    ),
    "en month words": (
        {"May the third, 2021", "May third, 2021"},
        {"December the thirty-first, 1999", "December thirty-first, 1999"},
    ),
    "en year month day": ({"2021 May 3", "2021, May 3"}, {"1999 December 31", "1999, December 31"}),
    "en short month": ({"3 May 2021", "May 3, 2021"}, {"31 Dec 1999", "Dec 31, 1999"}),
    "en short dashes": ({"03-May-2021"}, {"31-Dec-1999"}),
    "en short year": ({"3 May '21", "May 3rd, '21"}, {"31 December '99", "Dec 31st, '99"}),
    "en weekday": (
        {"Monday, 3 May 2021", "Monday 3rd May 2021"},
        {"Friday, 31 December 1999", "Friday 31st December 1999"},
    ),
    "en weekday month": ({"Monday, May 3, 2021"}, {"Friday, December 31, 1999"}),
    "en short weekday": ({"Mon, 03 May 2021"}, {"Fri, 31 Dec 1999"}),
    "en weekday numbers": ({"Mon 3/5/21", "Mon 03/05/2021"}, {"Fri 31/12/99", "Fri 31/12/1999"}),
    "en upper": ({"3 MAY 2021", "MAY 3RD, 2021"}, {"31 DECEMBER 1999", "DECEMBER 31ST, 1999"}),
    "en upper compact": ({"03MAY2021"}, {"31DEC1999"}),
    "en lower": ({"3 may 2021", "may 3, 2021"}, {"31 december 1999", "dec 31, 1999"}),
    "de": ({"3. Mai 2021", "am 3. Mai 2021"}, {"31. Dezember 1999", "am 31. Dezember 1999"}),
    "de short month": ({"3. Mai 2021"}, {"31. Dez. 1999"}),
    "de words": ({"der dritte Mai 2021"}, {"der einunddreißigste Dezember 1999"}),
    "de weekday": (
        {"Montag, 3. Mai 2021", "Montag, den 3. Mai 2021"},
        {"Freitag, 31. Dezember 1999", "Freitag, den 31. Dezember 1999"},
    ),
    "de weekday numbers": ({"Mo, 03.05.2021", "Mo 3.5.21"}, {"Fr, 31.12.1999", "Fr 31.12.99"}),
    "fr": ({"3 mai 2021", "le 3 mai 2021"}, {"31 décembre 1999", "le 31 décembre 1999"}),
    "fr short month": ({"3 mai 2021"}, {"31 déc. 1999"}),
    "fr words": ({"le trois mai 2021"}, {"le trente et un décembre 1999"}),
    "fr weekday": (
        {"lundi 3 mai 2021", "le lundi 3 mai 2021"},
        {"vendredi 31 décembre 1999", "le vendredi 31 décembre 1999"},
    ),
    "fr weekday numbers": ({"lun. 03/05/2021"}, {"ven. 31/12/1999"}),
    "es": (
        {"3 de mayo de 2021", "el 3 de mayo de 2021"},
        {"31 de diciembre de 1999", "el 31 de diciembre de 1999"},
    ),
    "es short month": ({"3 may 2021", "03-may-2021"}, {"31 dic 1999", "31-dic-1999"}),
    "es words": ({"el tres de mayo de 2021"}, {"el treinta y uno de diciembre de 1999"}),
    "es weekday": ({"lunes, 3 de mayo de 2021"}, {"viernes, 31 de diciembre de 1999"}),
    "es weekday numbers": ({"lun 3/5/2021"}, {"vie 31/12/1999"}),
}

# The first of a month has words and endings of its own. It was a Sunday.
FIRST_BY_HAND = {
    "dots short year": {"1.2.09", "01.02.09"},
    "en ordinal month": {"1st February 2009", "the 1st of February 2009"},
    "en short year": {"1 February '09", "Feb 1st, '09"},
    "en words": {"the first of February 2009", "the first of February, 2009"},
    "de words": {"der erste Februar 2009"},
    "de weekday numbers": {"So, 01.02.2009", "So 1.2.09"},
    "fr": {"1er février 2009", "le 1er février 2009"},
    "fr words": {"le premier février 2009"},
    "fr weekday": {"dimanche 1er février 2009", "le dimanche 1er février 2009"},
    "es": {"1 de febrero de 2009", "el 1 de febrero de 2009"},
    "es words": {"el primero de febrero de 2009"},
    "es weekday": {"domingo, 1 de febrero de 2009"},
}


def numbered(*lists: str, first: int = 1) -> dict[str, int]:
    """Returns the number of each word in its list; a list's words stand in their natural order."""
    return {word: number for words in lists for number, word in enumerate(words.split(), first)}


# The reader's own dictionary. Day words are built from their parts, as the languages build them,
# and a day in several words is the sum of them: trente et un, twenty-first, dix-sept.
MONTHS = numbered(
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jan. feb. märz apr. mai juni juli aug. sept. okt. nov. dez.",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "ene feb mar abr may jun jul ago sep oct nov dic",
    "i ii iii iv v vi vii viii ix x xi xii",
    "i. ii. iii. iv. v. vi. vii. viii. ix. x. xi. xii.",
)
WEEKDAYS = numbered(
    "monday tuesday wednesday thursday friday saturday sunday",
    "mon tue wed thu fri sat sun",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "mo di mi do fr sa so",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lun. mar. mer. jeu. ven. sam. dim.",
    "lunes martes miércoles jueves viernes sábado domingo",
    "lun mar mié jue vie sáb dom",
)
GERMAN_UNITS = numbered("ein zwei drei vier fünf sechs sieben acht neun")
DAY_WORDS = (
    numbered("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")
    | {
        f"{stem}teenth": number
        for stem, number in numbered("thir four fif six seven eigh nine", first=13).items()
    }
    | {"twenty": 20, "twentieth": 20, "thirty": 30, "thirtieth": 30}
    | numbered("erste zweite dritte vierte fünfte sechste siebte achte neunte zehnte elfte zwölfte")
    | {
        f"{stem}zehnte": number
        for stem, number in numbered("drei vier fünf sech sieb acht neun", first=13).items()
    }
    | {"zwanzigste": 20, "dreißigste": 30}
    | {f"{unit}undzwanzigste": 20 + number for unit, number in GERMAN_UNITS.items()}
    | {"einunddreißigste": 31}
    | numbered("premier deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze")
    | {"un": 1, "quinze": 15, "seize": 16, "vingt": 20, "trente": 30}
    | numbered("primero dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce")
    | {"uno": 1, "quince": 15, "dieciséis": 16, "veinte": 20, "treinta": 30}
    | {f"dieci{unit}": 10 + n for unit, n in numbered("siete ocho nueve", first=7).items()}
    | {
        f"veinti{unit}": 20 + number
        for unit, number in numbered("uno dós trés cuatro cinco séis siete ocho nueve").items()
    }
)
SILENT = numbered("the of st nd rd th am der den le er et el de y").keys()

PART = re.compile(r"\d+|[^\W\d_]+\.?")


def read(text: str) -> date:
    """Reads a written date by the rules of the module's description, whatever its format."""
    text = text.lower()
    month_first = text.startswith("us:") or text.endswith(("(us)", "(mm/dd/yyyy)"))
    parts = PART.findall(re.sub(r"\(.*\)|us:", "", text))
    numbers = [part for part in parts if part.isdecimal()]
    words = [part for part in parts if not part.isdecimal() and part not in SILENT]
    if numbers and len(numbers[0]) == 8:
        digits = numbers[0]
        numbers = [digits[:4], digits[4:6], digits[6:]]

    weekday = None
    if words and words[0] in WEEKDAYS and (len(words) > 1 or len(numbers) == 3):
        weekday = WEEKDAYS[words.pop(0)]

    year_first = len(numbers[0]) == 4
    year = numbers.pop(0 if year_first else -1)
    month_words = [word for word in words if word in MONTHS]
    if month_words:
        assert len(month_words) == 1, f"{text!r} names more than one month"
        month = MONTHS[month_words[0]]
        days = [DAY_WORDS[word] for word in words if word not in MONTHS] + list(map(int, numbers))
        assert numbers == [] or len(days) == 1, f"{text!r} has more than one day"
        day = sum(days)
    else:
        assert words == [], f"{text!r} has words that say nothing"
        first, second = map(int, numbers)
        month, day = (first, second) if month_first or year_first else (second, first)

    found = date(full_year(year), month, day)
    assert weekday in (None, found.isoweekday()), f"{text!r} has the wrong weekday"
    return found


def full_year(digits: str) -> int:
    if len(digits) == 4:
        return int(digits)
    return int(digits) + (1900 if int(digits) >= 70 else 2000)


def test_there_are_at_least_25_formats_in_several_languages():
    assert len(FORMATS) >= 25
    assert {name.split()[0] for name in FORMATS} >= {"en", "de", "fr", "es", "us"}


def test_every_format_has_expected_strings():
    assert set(BY_HAND) == set(FORMATS)


@pytest.mark.parametrize("name", BY_HAND)
def test_writes_what_was_worked_out_by_hand(name):
    on_monday, on_friday = BY_HAND[name]
    assert set(FORMATS[name].spellings(MONDAY)) == on_monday
    assert set(FORMATS[name].spellings(FRIDAY)) == on_friday


@pytest.mark.parametrize("name", FIRST_BY_HAND)
def test_writes_the_first_of_a_month(name):
    assert set(FORMATS[name].spellings(date(2009, 2, 1))) == FIRST_BY_HAND[name]


@pytest.mark.parametrize("name", BY_HAND)
def test_chance_reaches_every_spelling_and_no_other(name):
    rng = Random(0)
    assert {FORMATS[name](MONDAY, rng) for _ in range(50)} == BY_HAND[name][0]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("1/2/69", date(2069, 2, 1)),
        ("1/2/70", date(1970, 2, 1)),
        ("US: 1/2/70", date(1970, 1, 2)),
        ("mar 3/5/2022", date(2022, 5, 3)),
        ("3-mar-2022", date(2022, 3, 3)),
        ("le vingt et un sept. 2022", date(2022, 9, 21)),
    ],
)
def test_the_reader_knows_the_rules(text, meaning):
    assert read(text) == meaning


@pytest.mark.parametrize("text", ["Tuesday, 3 May 2021", "Di, 03.05.2021", "mardi 3 mai 2021"])
def test_the_reader_refuses_a_wrong_weekday(text):
    with pytest.raises(AssertionError, match="wrong weekday"):
        read(text)


@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_with_the_rules_recovers_the_date(name):
    # Every 17th date: all weekdays, days, months and years, each in many combinations.
    for day in written_dates.all_dates()[::17]:
        for text in FORMATS[name].spellings(day):
            assert read(text) == day, text


def test_no_text_stands_for_two_dates_in_one_format_or_across_formats():
    # Whole strings would fill the memory; their hashes do (64 bits, under three million texts).
    meaning: dict[int, int] = {}
    clashes = []
    formats = FORMATS.values()
    for day in written_dates.all_dates():
        number = day.toordinal()
        for write in formats:
            for text in write.spellings(day):
                if meaning.setdefault(hash(text), number) != number:
                    clashes.append((text, day))
    assert clashes == []
    assert len(meaning) > 30 * 36525


def test_the_calendar_goes_from_1970_to_2069_without_a_gap():
    dates = written_dates.all_dates()
    assert (dates[0], dates[-1]) == (date(1970, 1, 1), date(2069, 12, 31))
    assert {(after - day).days for day, after in zip(dates, dates[1:], strict=False)} == {1}


def test_the_split_is_a_partition_of_the_calendar():
    training, held_out = written_dates.split_dates(seed=3, held_out=5000)
    assert len(held_out) == 5000
    assert set(training).isdisjoint(held_out)
    assert sorted(training + held_out) == written_dates.all_dates()


def test_the_split_depends_on_its_seed():
    assert written_dates.split_dates(seed=3) != written_dates.split_dates(seed=4)


def test_training_dates_cover_every_day_month_and_year():
    training = written_dates.split_dates().training
    assert {(day.month, day.day) for day in training} >= {
        (day.month, day.day) for day in written_dates.all_dates() if day.year == 2000
    }
    assert {(day.year, day.month) for day in training} == {
        (day.year, day.month) for day in written_dates.all_dates()
    }


@pytest.mark.parametrize(("training_seed", "held_out_seed"), [(0, 0), (5, 9)])
def test_no_held_out_date_is_in_training_whatever_the_seeds(training_seed, held_out_seed):
    training = {pair.target for pair in written_dates.training_pairs(60_000, training_seed)}
    held_out = {pair.target for pair in written_dates.held_out_pairs(4000, held_out_seed)}
    assert len(training) > 20_000
    assert len(held_out) == 4000
    assert training.isdisjoint(held_out)


def test_targets_and_format_names_belong_to_the_sources():
    for pair in [*written_dates.training_pairs(2000), *written_dates.held_out_pairs(2000)]:
        meaning = read(pair.source)
        assert pair.target == f"{meaning.year}-{meaning.month:02}-{meaning.day:02}"
        assert pair.source in FORMATS[pair.format_name].spellings(meaning)


@pytest.mark.parametrize("count", [2000, 2345, 4000])
def test_held_out_pairs_are_spread_evenly_and_come_once(count):
    pairs = written_dates.held_out_pairs(count)
    per_format = Counter(pair.format_name for pair in pairs)
    assert len(pairs) == len({pair.source for pair in pairs}) == count
    assert set(per_format) == set(FORMATS)
    assert max(per_format.values()) - min(per_format.values()) <= 1


def test_held_out_formats_see_the_whole_range_of_years():
    years: dict[str, set[int]] = {name: set() for name in FORMATS}
    for pair in written_dates.held_out_pairs(4000):
        years[pair.format_name].add(int(pair.target[:4]))
    for name, seen in years.items():
        assert min(seen) < 1980 and max(seen) >= 2060, name


def test_training_uses_every_format_about_equally_often():
    per_format = Counter(pair.format_name for pair in written_dates.training_pairs(49_000))
    assert set(per_format) == set(FORMATS)
    expected = 49_000 / len(FORMATS)
    assert min(per_format.values()) > 0.8 * expected
    assert max(per_format.values()) < 1.2 * expected


def test_no_pairs_are_no_pairs():
    assert written_dates.training_pairs(0) == written_dates.held_out_pairs(0) == []


def test_seeds_decide_the_pairs():
    assert written_dates.training_pairs(100, 1) == written_dates.training_pairs(100, 1)
    assert written_dates.training_pairs(100, 1) != written_dates.training_pairs(100, 2)
    assert written_dates.held_out_pairs(100, 1) == written_dates.held_out_pairs(100, 1)
    assert written_dates.held_out_pairs(100, 1) != written_dates.held_out_pairs(100, 2)


def test_pairs_are_the_same_in_every_python():
    # Recorded with Python 3.11. Another version, machine or hash seed must give the same; only a
    # change of FORMATS or of the split may change these lines.
    training = [pair.source for pair in written_dates.training_pairs(4, seed=7)]
    held_out = [pair.source for pair in written_dates.held_out_pairs(4, seed=7)]
    assert training == ["18/5/2002", "2 April '77", "12 Oct 1975", "2013.05.30"]
    assert held_out == ["1986-06-19", "19730519", "2058/01/31", "2045.4.21"]


def run_script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "written_dates.py"), *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
    )


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_script_prints_source_tab_target(hash_seed):
    done = run_script("--count", "30", "--seed", "7", PYTHONHASHSEED=hash_seed)
    assert done.returncode == 0, done.stderr
    assert [tuple(line.split("\t")) for line in done.stdout.splitlines()] == [
        (pair.source, pair.target) for pair in written_dates.training_pairs(30, seed=7)
    ]


def test_the_script_refuses_a_negative_count():
    done = run_script("--count", "-1")
    assert done.returncode == 2
    assert "must not be negative, got -1" in done.stderr


@pytest.mark.parametrize("held_out", [-1, 0, 36525])
def test_a_split_needs_dates_on_both_sides(held_out):
    with pytest.raises(ValueError, match=f"1 to 36524, got {held_out}"):
        written_dates.split_dates(held_out=held_out)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        written_dates.training_pairs(-1)


@pytest.mark.parametrize("count", [-1, 4001])
def test_held_out_pairs_cannot_outnumber_the_held_out_dates(count):
    with pytest.raises(ValueError, match=f"0 to 4000, .* got {count}"):
        written_dates.held_out_pairs(count)


def test_the_examples_in_the_docstrings_run():
    failed, tried = doctest.testmod(written_dates)
    assert tried >= 10
    assert failed == 0
