"""The table and the plot of what was trained."""

from pathlib import Path

from benchmarks.table4.cells import HEADLINE, UPDATES, Cell

_COLOURS = {"general": "tab:blue", "dot": "tab:orange", "concat": "tab:green", "location": "0.4"}
_LINES = {"global": "-", "local_m": ":", "local_p": "--"}


def table(results: list[dict], joey: dict | None) -> str:
    """Markdown: a row for each cell, the best on the validation set first."""
    results = sorted(results, key=lambda result: -result["rows"][-1]["bleu"])
    first = results[0]
    parts = [
        f"{first['minutes']:g} minutes of training each. {_several(results, 'machine')}, "
        f"{_several(results, 'versions')}, {_several(results, 'date')}, "
        f"commit {_several(results, 'commit')}. BLEU: `{first['signature']}`.",
        _rows(
            "score | window | input feeding | seed | updates | parameters | perplexity, validation "
            "| BLEU, validation, greedy | BLEU, test, greedy | BLEU, test, beam 5",
            [_row(result) for result in results],
        ),
    ]
    if joey:
        parts.append(_beside_joey(results, joey))
    return "\n\n".join(parts)


def _row(result: dict) -> list[str]:
    cell, last, test = Cell(**result["cell"]), result["rows"][-1], result["test"]
    return [
        cell.score_mode,
        cell.window,
        "yes" if cell.input_feeding else "no",
        str(cell.seed),
        f"{result['updates']:,}",
        f"{result['parameters']:,}",
        f"{last['perplexity']:.2f}",
        f"{last['bleu']:.2f}",
        f"{test['greedy']:.2f}",
        f"{test['beam']:.2f}",
    ]


def _beside_joey(results: list[dict], joey: dict) -> str:
    rows = [_read_row("Joey NMT", joey["rows"], joey["updates"], joey["test"])]
    for result in results:
        if Cell(**result["cell"]) == HEADLINE:
            tested = [row for row in result["rows"] if "test" in row]
            rows += [_read_row("ours", tested, UPDATES, row["test"]) for row in tested]
    heads = "model | updates | BLEU, validation, greedy | BLEU, test, greedy | BLEU, test, beam 5"
    return f"Beside {joey['versions']}, seed 1:\n\n{_rows(heads, rows)}"


def _read_row(name: str, rows: list[dict], updates: int, test: dict) -> list[str]:
    validation = next(f"{row['bleu']:.2f}" for row in rows if row["updates"] == updates)
    return [name, f"{updates:,}", validation, f"{test['greedy']:.2f}", f"{test['beam']:.2f}"]


def _rows(heads: str, rows: list[list[str]]) -> str:
    lines = [heads, " | ".join(["---"] * len(heads.split("|"))), *map(" | ".join, rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _several(results: list[dict], name: str) -> str:
    return ", ".join(sorted({result[name] for result in results}))


def plot(results: list[dict], path: Path) -> None:
    """BLEU and perplexity of the validation set over the minutes of training."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "table4"  # the same picture is the same file
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("bleu", "perplexity"), strict=True):
        for result in results:
            cell = Cell(**result["cell"])
            axes.plot(
                [row["seconds"] / 60 for row in result["rows"]],
                [row[name] for row in result["rows"]],
                color=_COLOURS[cell.score_mode] if cell.input_feeding else "tab:red",
                linestyle=_LINES[cell.window],
                linewidth=1.5 if cell.seed == 1 else 0.7,
                label=_label(cell),
            )
        axes.set_xlabel("minutes of training")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9")
    bleu, perplexity = figure.axes
    bleu.set_title("BLEU, validation set, greedy", fontsize=10)
    perplexity.set_title("Perplexity of a subword, validation set", fontsize=10)
    perplexity.set_yscale("log")
    perplexity.yaxis.set_major_formatter("{x:g}")
    perplexity.yaxis.set_minor_formatter("{x:g}")
    bleu.legend(fontsize=7, loc="lower right")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _label(cell: Cell) -> str:
    feeding = "" if cell.input_feeding else ", no input feeding"
    seed = "" if cell.seed == 1 else f", seed {cell.seed}"
    return f"{cell.score_mode}, {cell.window}{feeding}{seed}"
