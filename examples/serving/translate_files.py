"""Translates a folder of text files with an exported SavedModel, on Apache Beam.

    python examples/serving/translate_files.py saved_models/en_de/1 --input texts --output out

Files are plain or .gz, one text a line, in the folder and in folders below it; those with a leading
dot are left out. Each gives a file of the same name in the same folder of the output, in which line
n is the translation of line n. It needs the extra `beam` (pip install -e '.[beam]').

A file appears when it is complete, and what was begun goes on: run the same command again. A line
that the model cannot bear leaves an empty line, and a record in `<name>.failed.jsonl`: the number
of the line (from 1), its text and the error. Nothing else is lost with it.

The files are spread over the workers, a file to one worker, so there should be more files than
workers (`split -l 1000000` makes some). A worker holds one chunk of lines in memory. Further
arguments go to Beam: `--runner FlinkRunner ...`; without any everything runs in this process.
"""

import argparse
import hashlib
import itertools
import json
import os
import posixpath
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_luong_cli import checks, without_import_notes
from keras_luong_cli.lines import one_line
from keras_luong_cli.option_types import positive

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The options, which are looked at before Beam and TensorFlow are imported."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=os.path.expanduser, help="folder of the SavedModel")
    folder = {"required": True, "type": os.path.expanduser}
    parser.add_argument("--input", help="folder of the texts", **folder)
    parser.add_argument("--output", help="folder of the translations", **folder)
    parser.add_argument("--chunk-lines", type=positive, default=4096, help="lines written at once")
    parser.add_argument("--batch-size", type=positive, default=64, help="lines translated at once")
    options, of_beam = parser.parse_known_args(words)
    options.of_beam = of_beam
    try:
        check(options)
    except (OSError, ValueError) as error:
        raise SystemExit(f"translate_files.py: {error}") from error
    return options


def check(options: argparse.Namespace) -> None:
    """Looks at the folders that are of this machine."""
    if "://" not in options.model:
        checks.saved_model(Path(options.model))
    if "://" not in options.input and not Path(options.input).is_dir():
        raise NotADirectoryError(f"{options.input!r} must be a folder of text files.")
    if "://" not in options.output:
        checks.folder_to_write(Path(options.output))


if __name__ == "__main__":
    OPTIONS = arguments()

with without_import_notes():
    import apache_beam as beam
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.metrics import Metrics
    from apache_beam.ml.inference.base import ModelHandler, RunInference
    from apache_beam.options.pipeline_options import PipelineOptions

    if __name__ == "__main__" and not OPTIONS.of_beam:
        import tensorflow  # noqa: F401  without options of Beam it runs in this process

FAILED = "failed"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Chunk(NamedTuple):
    """Some lines of a file, in their order, without the ends of the lines."""

    path: str
    index: int
    lines: list[bytes]


class Failure(NamedTuple):
    """What the model said of a line instead of translating it."""

    error: str


class Job(NamedTuple):
    """Where everything is, and how it is cut.

    Attributes:
        model: Folder of the SavedModel.
        output: Folder of the translations.
        chunk_lines: The most lines of a chunk.
        batch_size: The most lines that the model sees at once.
        input: Folder of the texts. What a path has behind it, it has behind `output` too.
    """

    model: str
    output: str
    chunk_lines: int = 4096
    batch_size: int = 64
    input: str = ""

    def name(self, path: str) -> str:
        """The file in its folder: `a.txt`, or `below/a.txt`."""
        start = FileSystems.join(self.input, "")
        is_inside = self.input and path.startswith(start)
        return path[len(start) :] if is_inside else posixpath.basename(path)

    def target(self, path: str) -> str:
        return FileSystems.join(self.output, *self.name(path).split("/"))

    def failures(self, path: str) -> str:
        return f"{self.target(path)}.failed.jsonl"

    def parts(self, path: str) -> str:
        """The folder of the chunks that are done of a file that is not."""
        return FileSystems.join(self.output, ".unfinished", *self.name(path).split("/"))

    def counts(self, path: str) -> str:
        """How many lines a file has that is done, and how many of them failed."""
        folder = FileSystems.join(self.output, ".counts", *self.name(path).split("/"))
        return f"{folder}.json"

    def part(self, path: str, index: int) -> str:
        return FileSystems.join(self.parts(path), f"{index:08d}.txt")

    def part_failures(self, path: str, index: int) -> str:
        return FileSystems.join(self.parts(path), f"{index:08d}.failed.jsonl")


class ReadChunks(beam.DoFn):
    """Cuts a file into chunks; those that are done already come without lines and tagged."""

    DONE = "done"

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, path: str) -> Iterator[Any]:
        for chunk in self._chunks(path):
            if FileSystems.exists(self.job.part(path, chunk.index)):
                yield beam.pvalue.TaggedOutput(self.DONE, (path, chunk.index))
            else:
                yield chunk

    def _chunks(self, path: str) -> Iterator[Chunk]:
        lines: list[bytes] = []
        index = 0
        with FileSystems.open(path) as file:  # unpacks by the ending of the name
            first = file.readline().removeprefix(_BYTE_ORDER_MARK)
            for line in itertools.chain([first] if first else (), iter(file.readline, b"")):
                lines.append(line.rstrip(b"\r\n"))
                if len(lines) == self.job.chunk_lines:
                    yield Chunk(path, index, lines)
                    lines, index = [], index + 1
        if lines or not index:  # of an empty file one without lines
            yield Chunk(path, index, lines)


class TranslatorHandler(ModelHandler[Chunk, tuple[Chunk, list[bytes | Failure]], Any]):
    """An exported translator for `RunInference`, whose examples are chunks."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def load_model(self) -> Any:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the ops of the tokenizers

        return tf.saved_model.load(self.job.model)

    def run_inference(
        self, batch: Sequence[Chunk], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterator[tuple[Chunk, list[bytes | Failure]]]:
        import tensorflow as tf

        name = "light" if "light" in model.signatures else "serving_default"
        function = model.signatures[name]

        def translate(lines: list[bytes]) -> list[bytes]:
            return function(text=tf.constant(lines, tf.string))["translation"].numpy().tolist()

        for chunk in batch:
            yield chunk, translated(chunk.lines, translate, self.job.batch_size, tf.errors.OpError)

    def batch_elements_kwargs(self) -> dict[str, Any]:
        return {"max_batch_size": 1}  # a chunk is cut into batches by its lengths

    def get_metrics_namespace(self) -> str:
        return "translate_files"


def translated(
    lines: list[bytes],
    translate: Callable[[list[bytes]], list[bytes]],
    batch_size: int,
    errors: type[Exception],
) -> list[bytes | Failure]:
    """Translates lines in batches of similar length. What fails alone is a `Failure`.

    So is a line with a NUL byte, as all lines of UTF-16 have them: the text must be UTF-8.
    """

    def found(places: list[int]) -> list[bytes | Failure]:
        try:
            return translate([lines[place] for place in places])
        except errors as error:
            if len(places) == 1:
                return [Failure(f"{type(error).__name__}: {error}")]
            middle = len(places) // 2
            return found(places[:middle]) + found(places[middle:])

    no_text = Failure("The line has a NUL byte: it is no UTF-8 text.")
    results: dict[int, bytes | Failure] = {
        place: no_text for place, line in enumerate(lines) if b"\0" in line
    }
    order = sorted({*range(len(lines))} - {*results}, key=lambda place: -len(lines[place]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        results.update(zip(places, found(places), strict=True))
    return [results[place] for place in range(len(lines))]


def as_line(text: bytes) -> bytes:
    """A translation as a line, whose bytes need not be UTF-8."""
    return one_line(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


class WriteChunk(beam.DoFn):
    """Writes what became of a chunk, and tells which; failures go to the side as well."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.lines = Metrics.counter("translate_files", "lines")
        self.failed = Metrics.counter("translate_files", "failed")

    def process(self, element: tuple[Chunk, list[bytes | Failure]]) -> Iterator[Any]:
        chunk, results = element
        records = []
        for place, (line, result) in enumerate(zip(chunk.lines, results, strict=True)):
            if isinstance(result, Failure):
                record = {
                    "file": self.job.name(chunk.path),
                    "line": chunk.index * self.job.chunk_lines + place + 1,
                    "text": line.decode("utf-8", "replace"),
                    "error": result.error,
                }
                records.append(json.dumps(record, ensure_ascii=False))
                yield beam.pvalue.TaggedOutput(FAILED, record)
        # Before the part, which says that the chunk is done.
        if records:
            failures = self.job.part_failures(chunk.path, chunk.index)
            write_whole(failures, ["\n".join(records).encode() + b"\n"])
        texts = (b"" if isinstance(one, Failure) else as_line(one) for one in results)
        part = self.job.part(chunk.path, chunk.index)
        write_whole(part, [b"".join(text + b"\n" for text in texts)])
        self.lines.inc(len(results))
        self.failed.inc(len(records))
        yield chunk.path, chunk.index


class Assemble(beam.DoFn):
    """Puts the chunks of a file together, once all of them are there."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, element: tuple[str, Any]) -> Iterator[str]:
        path, indices = element
        count = len(set(indices))
        failures = [self.job.part_failures(path, index) for index in range(count)]
        failures = [name for name in failures if FileSystems.exists(name)]
        if failures:
            write_whole(self.job.failures(path), contents(failures))
        parts = [self.job.part(path, index) for index in range(count)]
        counts = {"lines": line_count(parts), "failed": line_count(failures)}
        # Before the target, which says that the file is done.
        write_whole(self.job.counts(path), [json.dumps(counts).encode()])
        write_whole(self.job.target(path), contents(parts))
        FileSystems.delete([self.job.parts(path)])
        yield path


def contents(names: list[str]) -> Iterator[bytes]:
    for name in names:
        with FileSystems.open(name, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield file.read()


def line_count(names: list[str]) -> int:
    return sum(content.count(b"\n") for content in contents(names))


def write_whole(name: str, pieces: Any) -> None:
    """Writes a file that appears complete or not at all."""
    folder, base = FileSystems.split(name)
    if not FileSystems.exists(folder):
        try:
            FileSystems.mkdirs(folder)
        except OSError:  # another worker was faster
            if not FileSystems.exists(folder):
                raise
    temporary = FileSystems.join(folder, f".{uuid.uuid4().hex}.{base}")
    with FileSystems.create(temporary) as file:  # packs by the ending of the name
        for piece in pieces:
            file.write(piece)
    if FileSystems.exists(name):  # of a bundle that a runner runs again
        FileSystems.delete([name])
    FileSystems.rename([temporary], [name])


def translate_files(files: beam.PCollection, job: Job) -> dict[str, beam.PCollection]:
    """Translates files.

    Args:
        files: Paths.
        job: The `Job`.

    Returns:
        `finished`, the paths of the files that are complete, and `failed`, the records of lines
        that the model could not translate.
    """
    chunks = (
        files
        # Spreads the files over the workers.
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadChunks(job)).with_outputs(ReadChunks.DONE, main="chunks")
    )
    written = (
        chunks.chunks
        | "Translate" >> RunInference(TranslatorHandler(job))
        | "Write" >> beam.ParDo(WriteChunk(job)).with_outputs(FAILED, main="written")
    )
    finished = (
        (written.written, chunks[ReadChunks.DONE])
        | "All chunks" >> beam.Flatten()
        | "Of a file" >> beam.GroupByKey()
        | "Assemble" >> beam.ParDo(Assemble(job))
    )
    return {"finished": finished, "failed": written[FAILED]}


def begin(job: Job) -> None:
    """Notes what the output is made with, or checks that it is the same as before.

    Raises:
        ValueError: If the folder holds the work of another model or other chunks.
    """
    fingerprint = hashlib.sha256(b"".join(contents([f"{job.model}/saved_model.pb"]))).hexdigest()
    mine = {"model": fingerprint, "chunk_lines": job.chunk_lines}
    name = FileSystems.join(job.output, ".job.json")
    if not FileSystems.exists(name):
        write_whole(name, [json.dumps(mine).encode()])
        return
    (found,) = contents([name])
    if json.loads(found) != mine:
        raise ValueError(
            f"{job.output!r} was begun with {found.decode()}, and this is {json.dumps(mine)}: go "
            "on with the same model and --chunk-lines, or choose another --output."
        )


def texts_of(job: Job) -> list[str]:
    """The files of the input and of the folders below it."""
    (match,) = FileSystems.match([FileSystems.join(job.input, "**")])
    output = FileSystems.join(job.output, "")
    paths = [one.path for one in match.metadata_list if not one.path.startswith(output)]
    return sorted(path for path in paths if not is_hidden(job.name(path)))


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def is_done(path: str, job: Job) -> bool:
    if not FileSystems.exists(job.target(path)):
        return False
    if FileSystems.exists(job.parts(path)):  # a run ended just before it removed them
        FileSystems.delete([job.parts(path)])
    return True


def report(paths: list[str], job: Job, files_before: int, lines_now: int) -> str:
    """What is done of the files, in all and before this run."""
    counts = [json.loads(one) for one in contents([job.counts(path) for path in paths])]
    lines, failed = (sum(count[name] for count in counts) for name in ("lines", "failed"))
    said = f"{len(paths)} files, {lines} lines"
    if failed:
        said += f", {failed} failed: see *.failed.jsonl"
    if lines_before := lines - lines_now:
        said += f"\nOf these {files_before} files and {lines_before} lines were done before."
    return said


def main(words: list[str] | None = None) -> None:
    translate_folder(arguments(words))


def translate_folder(options: argparse.Namespace) -> None:
    job = Job(options.model, options.output, options.chunk_lines, options.batch_size, options.input)
    try:
        paths = texts_of(job)
        if not paths:
            raise ValueError(f"There are no files in {job.input!r}.")
        begin(job)
    except ValueError as error:
        raise SystemExit(f"translate_files.py: {error}") from error
    left = [path for path in paths if not is_done(path, job)]
    lines = translate_left(left, job, options.of_beam) if left else 0
    if not left:
        print("All files are translated.")
    print(report(paths, job, len(paths) - len(left), lines))


def translate_left(paths: list[str], job: Job, of_beam: list[str]) -> int:
    """Translates files; returns how many lines there were to translate."""
    pipeline = beam.Pipeline(options=PipelineOptions(of_beam))
    translate_files(pipeline | beam.Create(paths), job)
    result = pipeline.run()
    result.wait_until_finish()
    return sum(
        counter.result
        for counter in result.metrics().query()["counters"]
        if (counter.key.metric.namespace, counter.key.metric.name) == ("translate_files", "lines")
    )


if __name__ == "__main__":
    sys.exit(translate_folder(OPTIONS))
