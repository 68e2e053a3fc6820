"""What README and docs say can be done as it stands there."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import click
import pytest
import yaml

from evalft import cli, config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(page: Path) -> list[list[str]]:
    """The command lines of code blocks that begin with `evalft`, as words, without comments."""
    lines = [
        line.strip() for line in page.read_text(encoding="utf-8").splitlines() if re.match(r" {4}(\$ )?evalft ", line)
    ]
    parts = [part for line in lines for part in re.split(r"\s{2,}(?=evalft )", line.removeprefix("$ "))]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_that_is_shown_is_there(page: Path) -> None:
    for _, *words in commands_of(page):
        if words[0].startswith("-"):
            continue
        command = cli.group.commands[words[0]]
        known = {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= known | {"-h", "--help"}, f"{shlex.join(words)}: {given - known}"


def test_the_readmes_show_configs_that_can_be_read_and_the_same_commands(tmp_path: Path) -> None:
    for name in ("README.md", "README.ko.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        (written,) = re.findall(r"```yaml\n(task:.*?)```", text, flags=re.DOTALL)
        config.build(yaml.safe_load(written), source=name, folder=tmp_path)
    english = {shlex.join(words) for words in commands_of(ROOT / "README.md")}
    assert {shlex.join(words) for words in commands_of(ROOT / "README.ko.md")} <= english


def test_the_reference_is_what_the_program_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    for name in ("commands", "config"):
        page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert page == made[name](), f"docs/{name}.md is old: python docs/make_reference.py"
