"""The commands: each parses, calls one function, prints. Heavy imports stay inside, so that --help is instant.

Standard output carries the result, standard error everything said on the way. Exit statuses are those of errors.py.
"""

from __future__ import annotations

import gc
import os
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from evalft.errors import INTERNAL, INTERRUPTED, USAGE, EvalftError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from evalft.concluding import Assessment
    from evalft.config import Config
    from evalft.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])


def main() -> None:
    """Entry point: a user's mistake is one line and a status, never a traceback."""
    gc.set_threshold(20_000)  # records have no cycles: looking for some every 700 takes a tenth of a cached run
    try:
        status = group.main(standalone_mode=False)
    except click.exceptions.Abort:
        status = INTERRUPTED
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except EvalftError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {_plain(line)}", err=True)
        status = error.status
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on where this one stopped", err=True)
        status = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        status = 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(
            f"error: {where}{error.strerror or error}; make room (or name another place with --out), then run the same "
            "command again: it goes on where this one stopped",
            err=True,
        )
        status = USAGE
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="evalft-", suffix=".log", delete=False, encoding="utf-8") as file:
            traceback.print_exc(file=file)
        click.echo(f"error: evalft itself failed ({type(error).__name__}): please report it with {file.name}", err=True)
        status = INTERNAL
    sys.exit(status or 0)


def _plain(text: str) -> str:
    """Without terminal escapes: messages may quote a server or a file."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "�", text)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="evalft", prog_name="evalft")
def group() -> None:
    """Measure first, train second: score models on your own test set and decide with evidence.

    Start with: evalft assess rows.csv --model openai:gpt-5-mini --threshold 'accuracy >= 0.9'
    """


def _run_options(command: Command) -> Command:
    """The options that check and assess share."""
    options = [
        click.argument("source", metavar="[CONFIG, RUN or DATA]", required=False, type=click.Path(path_type=Path)),
        click.option("--model", "models", multiple=True, metavar="SPEC", help="Candidate: openai:M, hf:ID or folder, file:ANSWERS. Repeatable."),
        click.option("--threshold", "thresholds", multiple=True, metavar="'METRIC >= X'", help="What is required. Repeatable."),
        click.option("--type", "task_type", type=click.Choice(["generation", "classification", "multilabel"])),
        click.option("--input", "input_column", metavar="COLUMN", help="Column of the input."),
        click.option("--target", "target_column", metavar="COLUMN", help="Column of the expected answer."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="A seeded sample of N test rows."),
        click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Hard cap on new spending."),
        click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any config value, e.g. limits.timeout_s=30."),
        click.option("--json", "as_json", is_flag=True, help="What happens as JSON lines on standard output, nothing else there."),
        click.option("-v", "--verbose", is_flag=True, help="Say each choice that is made, as log.txt has it."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@group.command()
@_run_options
@click.option("--fresh", is_flag=True, help="Measure again: nothing from the cache or a finished run.")
@click.option("--exit-code", is_flag=True, help="Status 3 for tune, stop, fix_labels; 4 for more_test_data.")
def assess(fresh: bool, exit_code: bool, **options: Any) -> int:
    """Score every candidate on every row, decide, report."""
    from evalft import pipeline

    with _watched(**options) as progress:
        config, out = _configure(**options)
        result = pipeline.assess(config, out=out, limit=options["limit"], fresh=fresh, progress=progress)
        return _finish(result, exit_code, progress, options["as_json"])


@group.command()
@_run_options
@click.option("--fresh", is_flag=True, help="Measure and train again: nothing from the cache or a finished run.")
@click.option("--train-here", is_flag=True, help="Train on this machine even if that takes long without a GPU.")
@click.option("--exit-code", is_flag=True, help="Status 3 for tune, stop, fix_labels; 4 for more_test_data.")
def run(fresh: bool, train_here: bool, exit_code: bool, **options: Any) -> int:
    """Assess; where the verdict is tune: expand the data, train, assess the tuned model, compare."""
    from evalft import pipeline

    with _watched(**options) as progress:
        config, out = _configure(**options)
        result = pipeline.run(
            config, out=out, limit=options["limit"], fresh=fresh, train_here=train_here, progress=progress
        )
        return _finish(result, exit_code, progress, options["as_json"])


def _training_options(command: Command) -> Command:
    options = [
        click.argument("source", metavar="[CONFIG or RUN]", required=False, type=click.Path(path_type=Path)),
        click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Hard cap on new spending."),
        click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any config value, e.g. tune.epochs=3."),
        click.option("-v", "--verbose", is_flag=True, help="Say each choice that is made, as log.txt has it."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@group.command()
@_training_options
def expand(**options: Any) -> None:
    """Make training rows: new inputs, the teacher's targets, checked, without duplicates or test rows."""
    from evalft import pipeline
    from evalft.progress import Progress

    config, out = _configure(**options)
    path = pipeline.expand(config, out=out, progress=Progress(_console(stderr=True), verbose=options["verbose"]))
    click.echo(path / "data" / "README.md")


@group.command()
@_training_options
def tune(**options: Any) -> None:
    """Train SFT and DPO adapters (expanding first), score each on dev, choose the best."""
    from evalft import pipeline
    from evalft.progress import Progress

    config, out = _configure(**options)
    path = pipeline.tune(config, out=out, progress=Progress(_console(stderr=True), verbose=options["verbose"]))
    click.echo(f"{path / 'stages.json'}\nscore the chosen stage on test with: evalft run {path}")


@group.command()
@click.argument("base", metavar="BASE")
@click.argument("new", metavar="NEW")
@click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="A smaller change of the primary metric does not matter.",
)
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON.")
def diff(base: str, new: str, margin: float | None, as_json: bool) -> None:
    """Compare two scored candidates on the same rows, paired. Each is RUN or RUN:CANDIDATE."""
    import json

    from evalft import diffing

    found = diffing.diff(base, new, margin=margin)
    if as_json:
        click.echo(json.dumps(diffing.as_data(found), ensure_ascii=False))
    else:
        diffing.show(found, _console())


@group.command()
@click.argument("run")
@click.option(
    "--out", type=click.Path(path_type=Path), default="baseline.jsonl", metavar="FILE", help="baseline.jsonl."
)
def baseline(run: str, out: Path) -> None:
    """Write what RUN (or RUN:CANDIDATE) scored on each row, small enough for git, for `evalft gate`."""
    from evalft import baselines, numbers

    rows = baselines.write(run, out)
    click.echo(f"{out}: {numbers.counted(rows, 'row')}, {out.stat().st_size:,} bytes; no text of your rows is in it")


@group.command()
@click.argument("run")
@click.option(
    "--baseline",
    "known",
    type=click.Path(path_type=Path),
    default="baseline.jsonl",
    metavar="FILE",
    help="baseline.jsonl.",
)
@click.option(
    "--config",
    "present",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The config that RUN must be of; evalft.yaml where there is one here.",
)
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="The result for a comment.")
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="The result as tests; junit.xml in the run folder."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def gate(run: str, known: Path, present: Path | None, markdown: Path | None, junit: Path | None, as_json: bool) -> int:
    """Whether RUN (or RUN:CANDIDATE) is worse than its baseline. Status 0 pass, 3 regression, 4 undecided.

    Undecided is 0 with a warning unless gate.undecided is fail. In GitHub Actions the result is in the step's summary
    too, and marked on the line of the config."""
    from evalft import gate_words, gating, github_annotations, scored_run
    from evalft import junit as junit_xml
    from evalft.store import write_atomically

    here = Path("evalft.yaml")
    present = present or (here if here.is_file() else None)
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"

    def annotate(lines: Sequence[str]) -> None:
        for line in lines if on_github else ():
            click.echo(line, err=as_json)

    try:
        junit = junit or scored_run.locate(run)[0].file("junit")
        found = gating.gate(known, run, present)
    except UserError as error:
        if junit:
            write_atomically(junit, junit_xml.refused(error.faults))
        annotate(github_annotations.of_faults(error.faults))
        raise
    write_atomically(junit, junit_xml.page(found))
    if as_json:
        click.echo(gate_words.as_json(found))
    elif on_github:
        with github_annotations.stopped(click.echo):
            gate_words.show(found, _console())
    else:
        gate_words.show(found, _console())
    annotate(github_annotations.of_gate(found, present))
    for file in (markdown, os.environ.get("GITHUB_STEP_SUMMARY")):
        if file:
            with Path(file).open("a", encoding="utf-8") as stream:
                stream.write(gate_words.markdown(found))
    return found.status


@group.command()
@_run_options
def check(**options: Any) -> None:
    """Validate config, data and models; estimate what assess would take. Spends nothing."""
    from evalft import checking

    with _watched(**options) as progress:
        config, out = _configure(**options)
        found = checking.check(config, out=out, limit=options["limit"])
        if options["as_json"]:
            checking.tell(found, progress)
            return
        same = sys.argv[sys.argv.index("check") + 1 :] if "check" in sys.argv else []
        checking.show(found, _console(), shlex.join(["evalft", "assess", *same]))


@group.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Thresholds, prices, volumes to decide under."
)
@click.option("--threshold", "thresholds", multiple=True, metavar="'METRIC >= X'")
@click.option("--exit-code", is_flag=True, help="Status 3 for tune, stop, fix_labels; 4 for more_test_data.")
def decide(run: Path, overrides: Sequence[str], thresholds: Sequence[str], exit_code: bool) -> int:
    """The verdict of RUN again from its stored answers, under other thresholds, prices or volumes. Spends nothing."""
    from evalft import concluding, pipeline
    from evalft.config import load

    concluding.require_run(run)
    config = load(run / "config.yaml", overrides, _threshold_values(thresholds))
    result = pipeline.decide_again(run, config)
    if thresholds:
        held = ", ".join(f"{metric} {require}" for metric, require in config.thresholds.items())
        click.echo(_plain(f"decided under {held} (those of the run, and --threshold)"), err=True)
    return _show(result, exit_code)


@group.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="task.metrics, task.normalize, task.positive."
)
def rescore(run: Path, overrides: Sequence[str]) -> int:
    """Read and score the stored answers of RUN again, where scoring changed; say what moved. Asks nothing."""
    from evalft import rescoring

    result, found, said = rescoring.rescore(run, overrides)
    for line in said:
        click.echo(_plain(line), err=True)
    for line in rescoring.lines(found):
        click.echo(_plain(line))
    click.echo(f"\n{result.path / 'report.html'}")
    return result.status


@group.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write report.html and report.md of RUN again and show the result."""
    from evalft.concluding import render
    from evalft.reporting.terminal import show

    render(run)
    show(run, _console())
    click.echo(f"\n{run / 'report.html'}")


@group.command()
@click.argument("runs", metavar="[RUN...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="A free one.")
@click.option("--no-open", is_flag=True, help="Print the address only; do not open a browser.")
def view(runs: Sequence[Path], port: int | None, no_open: bool) -> None:
    """Browse runs, compare two and read all their examples in the browser. RUN: run folders or folders of some; reports.

    Only on this machine (127.0.0.1), reads only. Ctrl-C ends it."""
    from evalft.viewing import server

    server.serve(runs or [Path("reports")], port, click.echo, open_browser=not no_open)


@group.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(min=1), default=60, metavar="N", help="How many rows to look at (60).")
@click.option("--read", "filled", type=click.Path(path_type=Path), metavar="FILE", help="Read this filled-in copy.")
def review(run: Path, rows: int, filled: Path | None) -> int:
    """Write RUN/review.csv, what a person should look at; once it is filled in, read it and decide again.

    Asks no model anything, and never writes over a file in which a person has written."""
    from evalft import reviewing

    found = reviewing.review(run, rows=rows, filled=filled)
    for line in found.said:
        click.echo(_plain(line), err=found.result is not None)
    return _show(found.result, exit_code=False) if found.result else 0


@group.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder.")
@click.option("--name", metavar="NAME", help="What the candidate is called.")
@click.option("--threshold", "thresholds", multiple=True, metavar="'METRIC >= X'", help="What is required. Repeatable.")
@click.option("--input", "input_column", metavar="COLUMN", help="Of a table: the input.")
@click.option("--target", "target_column", metavar="COLUMN", help="Of a table: the expected answer.")
@click.option("--answer", "answer_column", metavar="COLUMN", help="Of a table: the answer.")
def import_(source: Path, out: Path | None, name: str | None, thresholds: Sequence[str], **columns: str | None) -> int:
    """Make a run folder of what another tool asked and scored: inspect, lm-eval, promptfoo, openai/evals, or a table.

    The tool's own scores become metrics named after it; nothing is asked."""
    from evalft import importing

    required = {key.removeprefix("thresholds."): text for key, text in _threshold_values(thresholds).items()}
    named = {key.removesuffix("_column"): column for key, column in columns.items()}
    result, said = importing.import_run(source, out=out, name=name, thresholds=required, columns=named)
    for line in said:
        click.echo(_plain(line), err=True)
    return _show(result, exit_code=False)


@group.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--from", "data", type=click.Path(path_type=Path), metavar="DATA", help="Infer type, columns and labels.")
@click.option("--example", metavar="NAME", help="Copy a bundled benchmark, such as anime-genres.")
@click.option("--split", type=float, metavar="SHARE", help="Split a lone file once: this share of the rows stays test.")
@click.option("--input", "input_column", metavar="COLUMN")
@click.option("--target", "target_column", metavar="COLUMN")
@click.option("--type", "task_type", type=click.Choice(["generation", "classification", "multilabel"]))
def init(folder: Path, data: Path | None, example: str | None, split: float | None, **columns: Any) -> None:
    """Write an evalft.yaml into DIR."""
    from evalft import starting

    if example:
        said = starting.copy_example(example, folder)
    elif data:
        said = starting.from_data(data, folder, split=split, **columns)
    elif split is not None:
        raise UserError("--split needs the file to split: --from DATA")
    else:
        said = starting.blank(folder)
    for line in said:
        click.echo(_plain(line))


@group.command()
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder.")
def demo(out: Path | None) -> int:
    """The whole loop on the bundled benchmark: assess, expand, train, assess again. No network, no key, no GPU."""
    from evalft import starting

    return _show(starting.demo(out, _console(stderr=True)), exit_code=False)


# ---------------------------------------------------------------- what commands share


def _configure(
    source: Path | None,
    max_cost: float | None,
    out: Path | None,
    overrides: Sequence[str],
    models: Sequence[str] = (),
    thresholds: Sequence[str] = (),
    task_type: str | None = None,
    input_column: str | None = None,
    target_column: str | None = None,
    **_: Any,
) -> tuple[Config, Path | None]:
    """The config that the arguments name, and the run folder: a config file, a run folder, or data without a config."""
    from evalft.sources import configure

    extra: dict[str, Any] = _threshold_values(thresholds)
    extra |= {"task.type": task_type} if task_type else {}
    extra |= {"task.input": input_column} if input_column else {}
    extra |= {"task.target": target_column} if target_column else {}
    extra |= {"limits.max_cost_usd": max_cost} if max_cost is not None else {}
    return configure(source, out=out, models=models, overrides=overrides, extra=extra)


def _threshold_values(thresholds: Sequence[str]) -> dict[str, Any]:
    values = {}
    for text in thresholds:
        found = re.fullmatch(r"\s*([\w.:/-]+)\s*((?:>=|<=).*)", text)
        if not found:
            raise UserError(f"--threshold {text!r}: write it as 'accuracy >= 0.9' or 'cost_per_query <= 0.001'")
        values[f"thresholds.{found[1]}"] = found[2].strip()
    return values


@contextmanager
def _watched(as_json: bool = False, verbose: bool = False, **_: Any) -> Iterator[Progress]:
    """What a person sees on the way, on standard error; under --json what happens, on standard output, a mistake too."""
    from evalft import events
    from evalft.progress import Progress

    emit = events.to(sys.stdout) if as_json else events.nobody
    try:
        yield Progress(_console(stderr=True), quiet=as_json and not verbose, verbose=verbose, emit=emit)
    except EvalftError as error:
        emit("error", lines=str(error).splitlines(), status=error.status)
        raise


def _finish(result: Assessment, exit_code: bool, progress: Progress, as_json: bool) -> int:
    status = result.verdict_status if exit_code else result.status
    if not as_json:
        return _show(result, exit_code)
    path = result.path.absolute()
    files = {name: str(path / file) for name, file in (("summary", "summary.json"), ("report", "report.html"))}
    progress.emit("finished", status=status, path=str(path), **files)
    return status


def _show(result: Assessment, exit_code: bool) -> int:
    from evalft.reporting.terminal import show

    show(result.path, _console())
    click.echo(f"\n{result.path / 'report.html'}")
    return result.verdict_status if exit_code else result.status


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, emoji=False)  # a model called `:m:` is no sign


if __name__ == "__main__":
    main()
