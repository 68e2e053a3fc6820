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
GUIDES = "batch cost gpus judging local-models local-servers providers statistics".split()
"""Pages of docs/ whose YAML is of evalft.yaml and nothing else."""
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(page: Path) -> list[list[str]]:
    """The command lines of code blocks that begin with `evalft`, as words, without comments."""
    text = page.read_text(encoding="utf-8")
    in_fences = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL))
    lines = [line.strip() for line in text.splitlines() if re.match(r" {4}(\$ )?evalft ", line)]
    lines += [line.partition(" || ")[0] for line in in_fences.splitlines() if line.startswith("evalft ")]
    parts = [part for line in lines for part in re.split(r"\s{2,}(?=evalft )", line.removeprefix("$ "))]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_shown_is_one_that_the_program_understands(page: Path) -> None:
    for _, *words in commands_of(page):
        if words[0].startswith("-"):
            continue
        command = cli.group.commands[words[0]]
        parser = command.make_parser(click.Context(command, info_name=words[0], **cli.group.context_settings))
        _, left, _ = parser.parse_args(words[1:])  # an option that is not there, or lacks its value, raises
        assert not left, f"{shlex.join(words)}: {left}"


@pytest.mark.parametrize("name", GUIDES)
def test_yaml_in_the_guides_is_config_that_can_be_read(name: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for written in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL):
        (tmp_path / "evalft.yaml").write_text(written if "task:" in written else f"task: {{}}\n{written}")
        config.load(tmp_path / "evalft.yaml")


@pytest.mark.parametrize("name", GUIDES)
def test_every_key_that_a_guide_names_is_one_of_the_config(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "config.md").read_text(encoding="utf-8"), re.MULTILINE))
    sections = "|".join(section for section in config.Config.model_fields if section != "engine")
    named = set(re.findall(rf"(?<![\w/.-])((?:{sections})\.(?!html|md|css)[a-z_.]+[a-z])", text))
    assert named <= keys, named - keys


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
