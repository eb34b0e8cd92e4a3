"""Tables of what was measured, and their places in RESULTS.md."""

import re
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.peers import training
from benchmarks.peers.floor import Sizes, search_flops, training_flops
from benchmarks.peers.work import BEAM_WIDTH

Results = dict[str, dict]
Aim = tuple[str, float, float]  # what, seen, at most
OURS = training.LEADER
MEMORY_SEARCH = "search memory, "
SHARE = "share of the products"


def blocks(results: Results) -> dict[str, str]:
    """A section's tables by its name; no section of which nothing was measured."""
    makers: dict[str, Callable[[Results], str]] = {
        "training": _training,
        "search": _search,
        "epoch": _epoch,
        "translation": _translation,
        "memory": _memory,
        "growth": _growth,
        "profile": _profile,
    }
    made = {name: maker(results) for name, maker in makers.items()}
    return {name: text + _aims(name, results) for name, text in made.items() if text}


def write(made: dict[str, str], path: Path) -> None:
    """Replaces what stands between `<!-- bench: NAME -->` and `<!-- end -->`, and nothing else."""
    text = path.read_text(encoding="utf-8")
    for name, block in made.items():
        pattern = rf"(<!-- bench: {re.escape(name)} -->\n).*?(<!-- end -->)"
        if not re.search(pattern, text, re.DOTALL):
            print(f"{path} has no place for {name!r}.", file=sys.stderr)
            continue
        text = re.sub(pattern, lambda m, b=block: f"{m[1]}\n{b}\n\n{m[2]}", text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


def ratio(ours: list[float], other: list[float]) -> str:
    """The median of the ratios round by round, and their quartiles."""
    low, middle, high = statistics.quantiles(_ratios(ours, other), n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def share(flops: float, seconds: float, rates: list[float]) -> str:
    """The time of the products alone at the machine's rate, as a share of the seconds."""
    return f"{flops / (1e9 * statistics.median(rates)) / seconds:.2f}"


def _ratios(ours: list[float], other: list[float]) -> list[float]:
    return [one / another for one, another in zip(ours, other, strict=True)]


def _middle_ratio(ours: list[float], other: list[float]) -> float:
    return statistics.median(_ratios(ours, other))


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _caption(result: dict) -> str:
    found = result["found"]
    said = [row["versions"] for row in found.get("rows", {}).values() if "versions" in row]
    parts = [f"{result['machine']}, {result['date']}, commit {result['commit']}"]
    parts += dict.fromkeys(said)
    if "rate" in found:
        parts.append(f"products at {statistics.median(found['rate']):.0f} GFLOP/s")
    return "; ".join(parts) + "."


def _training(results: Results) -> str:
    result = results.get("training")
    if not result:
        return ""
    rows, rate = result["found"]["rows"], result["found"]["rate"]
    sizes = Sizes(**result["arguments"]["sizes"])

    def row(name: str) -> list[str]:
        one = rows[name]
        middle = statistics.median(one["ms"]) / 1000
        flops = training_flops(sizes, attention=not name.startswith("no attention"))
        return [
            name,
            *(ratio(one["ms"], rows[peer]["ms"]) for peer in ("tfa", "torch")),
            f"{1000 * middle:.0f}",
            share(flops, middle, rate),
            f"{one['first_s']:.1f}",
            f"{one['first_s'] - middle:.1f}",
        ]

    head = ["", "/ tfa", "/ torch", "ms", SHARE, "first step, s", "of it tracing and compiling, s"]
    note = f"A step's products: {training_flops(sizes) / 1e9:.1f} GFLOP."
    return f"{_caption(result)} {note}\n\n{_table(head, map(row, rows))}"


def _search(results: Results) -> str:
    result = results.get("search")
    if not result:
        return ""
    rows, rate = result["found"]["rows"], result["found"]["rate"]
    sizes = Sizes(**result["arguments"]["sizes"])
    beams = {"beam": BEAM_WIDTH, "greedy": 1}

    def row(one: str, name: str) -> list[str]:
        times = rows[name]["ms"][one]
        middle = statistics.median(times)
        floor = share(search_flops(sizes, beams[one]), middle / 1000, rate)
        return [f"{one}, {name}", ratio(rows["ours"]["ms"][one], times), f"{middle:.0f}", floor]

    searches = result["arguments"]["searches"]
    table = _table(
        ["", "ours / this", "ms", SHARE], (row(one, name) for one in searches for name in rows)
    )
    agreement = (
        f"Of our {sizes.batch} best hypotheses ({one}) "
        + ", ".join(f"{peer} finds {row['same']}" for peer, row in peers.items())
        + f"; log-probabilities differ by {max(row['log_probs'] for row in peers.values()):.0e} "
        "at most."
        for one, peers in result["found"]["agreement"].items()
    )
    return f"{_caption(result)} {' '.join(agreement)}\n\n{table}"


def _epoch(results: Results) -> str:
    result = results.get("epoch")
    if not result:
        return ""
    found = result["found"]
    an_update = {
        name: [seconds / row["updates"] for seconds in row["seconds"]]
        for name, row in found["rows"].items()
    }

    def row(name: str) -> list[str]:
        one = found["rows"][name]
        middle = statistics.median(an_update[name])
        epoch = middle * one["epoch_updates"]
        first = statistics.mean(an_update[name]) * one["epoch_updates"]
        return [
            name,
            ratio(an_update["ours"], an_update[name]),
            f"{1000 * middle:.0f}",
            f"{one['updates'] * len(one['seconds'])} of {one['epoch_updates']}",
            f"{epoch:.0f}",
            f"{first:.0f}",
            f"{found['sentences'] / epoch:.0f}",
            share(found["flops"], epoch, found["rate"]),
        ]

    head = ["", "ours / this, an update", "ms an update", "updates measured", "an epoch, s"]
    head += ["the first epoch, s", "sentences a second", SHARE]
    return f"{_caption(result)}\n\n{_table(head, map(row, found['rows']))}"


def _translation(results: Results) -> str:
    result = results.get("translation")
    if not result:
        return ""
    found = result["found"]
    rows = found["rows"]

    def row(name: str) -> list[str]:
        one, middle = rows[name], statistics.median(rows[name]["seconds"])
        return [
            name,
            f"{_a_token(rows['ours']) / _a_token(one):.2f}",
            f"{1000 * _a_token(one):.3f}",
            f"{middle:.1f}",
            f"{one['tokens']:,}",
            f"{one['bleu']:.2f}",
            str(one["same"]),
            share(one["flops"], middle, found["rate"]),
        ]

    head = ["", "ours / this, a token", "ms a token", "seconds", "output tokens", "BLEU"]
    head += ["translations that are ours", SHARE]
    signature = rows["ours"]["signature"]
    return f"{_caption(result)} sacreBLEU: `{signature}`.\n\n{_table(head, map(row, rows))}"


def _a_token(row: dict) -> float:
    """Seconds."""
    return statistics.median(row["seconds"]) / row["tokens"]


def _memory(results: Results) -> str:
    made = []
    if result := results.get("training memory"):
        rows, idle = result["found"]["rows"], result["found"]["idle"]
        table = _table(
            ["a training step", "peak above what is held, MB", "the whole process, MB"],
            (
                [name, f"{one['peak']:.0f}", f"{one['held'] + one['peak']:.0f}"]
                for name, one in rows.items()
            ),
        )
        note = f"A process that only imported TensorFlow and Keras holds {idle:.0f} MB."
        made.append(f"{_caption(result)} {note}\n\n{table}")
    searches = [one for name, one in results.items() if name.startswith(MEMORY_SEARCH)]
    if searches:
        names = searches[0]["arguments"]["names"]
        lines = [
            [
                f"{work}, vocabulary {one['arguments']['sizes']['vocabulary']}",
                f"{rows['ours'][work] / rows['tfa'][work]:.2f}",
                *(f"{rows[name][work]:.1f}" for name in names),
            ]
            for one in searches
            for rows in [one["found"]["rows"]]
            for work in one["arguments"]["works"]
        ]
        head = ["a search: peak above what is held, MB", "ours / tfa", *names]
        made.append(f"{_caption(searches[0])}\n\n{_table(head, lines)}")
    return "\n\n".join(made)


def _growth(results: Results) -> str:
    grown = [name for name in results if re.fullmatch(r"(training|search), \w+ \d+", name)]
    if not grown:
        return ""
    dates = sorted({results[name]["date"] for name in grown})
    commits = sorted({results[name]["commit"] for name in grown})
    machine = results[grown[0]]["machine"]
    caption = f"{machine}, {' and '.join(dates)}, commit {', '.join(commits)}."
    return "\n\n".join(
        [caption, *(_grown(results, grown, work) for work in ("training", "search"))]
    )


def _grown(results: Results, grown: list[str], work: str) -> str:
    """One work's points, factor after factor, the common work's own among them."""
    points = [
        (factor, int(value), results[name])
        for name in grown
        for kind, factor, value in [re.split(r",? ", name)]
        if kind == work
    ]
    if base := results.get(work):
        sizes = base["arguments"]["sizes"]
        points += [(factor, sizes[factor], base) for factor in dict.fromkeys(p[0] for p in points)]
    order = list(dict.fromkeys(factor for factor, _, _ in points))
    points.sort(key=lambda point: (order.index(point[0]), point[1]))
    head = [work, "ours / tfa", "ours / torch", "ours, ms", "tfa, ms", "torch, ms"]
    head += [f"{SHARE}: ours", "GFLOP/s"]
    return _table(head, (_point(work, *point) for point in points))


def _point(work: str, factor: str, value: int, result: dict) -> list[str]:
    rows, rate = result["found"]["rows"], result["found"]["rate"]
    sizes = Sizes(**result["arguments"]["sizes"])
    if work == "training":
        names, flops = (OURS, "tfa", "torch"), training_flops(sizes)
        times = [rows[name]["ms"] for name in names]
    else:
        names, flops = ("ours", "tfa", "torch"), search_flops(sizes, BEAM_WIDTH)
        times = [rows[name]["ms"]["beam"] for name in names]
    middles = [statistics.median(one) for one in times]
    return [
        f"{factor.replace('_', ' ')} {value}",
        *(ratio(times[0], other) for other in times[1:]),
        *(f"{middle:.3g}" if middle < 10 else f"{middle:.0f}" for middle in middles),
        share(flops, middles[0] / 1000, rate),
        f"{statistics.median(rate):.0f}",
    ]


def _profile(results: Results) -> str:
    result = results.get("profile")
    if not result:
        return ""
    made = [_caption(result)]
    for search, found in result["found"].items():
        total = sum(milliseconds for _, milliseconds in found["parts"])
        rows = ([name, f"{ms:.1f}", f"{ms / total:.2f}"] for name, ms in found["parts"])
        made.append(_table([f"{search}: parts", "ms", "share"], rows))
    return "\n\n".join(made)


def _aims(section: str, results: Results) -> str:
    """What was aimed at, and whether it was met in these runs."""
    makers: dict[str, Callable[[Results], list[Aim]]] = {
        "training": _training_aims,
        "search": _search_aims,
        "epoch": _epoch_aims,
        "translation": _translation_aims,
        "memory": _memory_aims,
    }
    if section not in makers:
        return ""
    rows = (
        [what, f"{seen:.3f}", f"{most:g}", "met" if seen <= most else "missed"]
        for what, seen, most in makers[section](results)
    )
    return "\n\n" + _table(["aim", "seen", "at most", ""], rows)


def _training_aims(results: Results) -> list[Aim]:
    rows = results["training"]["found"]["rows"]
    times = {name: row["ms"] for name, row in rows.items()}
    of_tfa = _middle_ratio(times[OURS], times["tfa"])
    without = _middle_ratio(times[OURS], times["no attention, XLA"])
    bfloat16 = _middle_ratio(times["ours, bfloat16"], times["tfa"])
    return [
        ("of tfa's time", of_tfa, 0.65),
        ("of tfa's time, better", of_tfa, 0.6),
        ("of torch's time", _middle_ratio(times[OURS], times["torch"]), 0.68),
        ("of the time without attention, both under XLA", without, 1.0),
        ("bfloat16 without XLA, of tfa's time", bfloat16, 0.55),
        ("first step, s", rows[OURS]["first_s"], 12.0),
    ]


def _search_aims(results: Results) -> list[Aim]:
    rows = results["search"]["found"]["rows"]
    seen = _middle_ratio(rows["ours"]["ms"]["beam"], rows["tfa"]["ms"]["beam"])
    return [("beam, of tfa's time", seen, 0.82), ("beam, of tfa's time, better", seen, 0.75)]


def _epoch_aims(results: Results) -> list[Aim]:
    ours, joey = (
        [seconds / row["updates"] for seconds in row["seconds"]]
        for row in results["epoch"]["found"]["rows"].values()
    )
    return [("an update, of Joey's time", _middle_ratio(ours, joey), 0.33)]


def _translation_aims(results: Results) -> list[Aim]:
    rows = results["translation"]["found"]["rows"]
    ours = _a_token(rows["ours"])
    return [
        (f"a token, of the time of {name}", ours / _a_token(row), 0.5)
        for name, row in rows.items()
        if name != "ours"
    ]


def _memory_aims(results: Results) -> list[Aim]:
    aims = []
    if result := results.get("training memory"):
        rows = result["found"]["rows"]
        whole = {name: row["held"] + row["peak"] for name, row in rows.items()}
        allowed = whole["torch"] + result["found"]["idle"]
        what = "of torch's process and an idle TensorFlow"
        aims += [(f"{name}, {what}", whole[name] / allowed, 1.0) for name in (OURS, "ours")]
    for name, result in results.items():
        if name.startswith(MEMORY_SEARCH):
            rows = result["found"]["rows"]
            vocabulary = result["arguments"]["sizes"]["vocabulary"]
            seen = rows["ours"]["beam"] / rows["tfa"]["beam"]
            aims.append((f"beam, vocabulary {vocabulary}, of tfa's peak", seen, 0.5))
    return aims
