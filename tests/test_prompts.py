"""A prompt is a template over columns, and only that."""

from __future__ import annotations

import pytest

from evalft import prompts
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import UserError
from evalft.records import Example


def example(number: int = 0, **row: object) -> Example:
    return Example(f"e{number}", str(row.get("text", "hello")), "a", row, source=f"rows.jsonl:{number + 1}")


def ask(
    template: str | None, *, row: Example, shots: int = 0, train: tuple[Example, ...] = (), **task: object
) -> list[str]:
    settings = TaskConfig(type="classification", labels=["a", "b"], prompt=template, **task)  # type: ignore[arg-type]
    make = prompts.prompter(settings, CandidateConfig(model="fake:echo", shots=shots), train)
    return [f"{turn['role']}: {turn['content']}" for turn in make(row)]


def test_columns_and_rows_and_labels_can_be_named() -> None:
    row = example(text="hi", **{"two words": "there"})
    template = '{{ text }} {{ row["two words"] }} {{ labels | join("/") }}'
    assert ask(template, row=row) == ["user: hi there a/b"]


def test_the_default_prompt_lists_the_labels_and_the_input() -> None:
    (turn,) = ask(None, row=example(text="which is it"))
    assert "which is it" in turn and "a, b" in turn and "label only" in turn


def test_a_missing_column_names_the_row_and_the_columns() -> None:
    with pytest.raises(UserError, match=r"rows.jsonl:1.*txet.*columns: text"):
        ask("{{ txet }}", row=example(text="hi"))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ text.__class__ }}",
        "{{ row['__class__'] }}",
        "{{ text.format(1) }}",
        "{{ 'a' * 10**9 }}",
        "{{ range(10) }}",
        "{% for a in text %}{% for b in text %}x{% endfor %}{% endfor %}",
        "{% include 'other' %}",
        "{% macro m() %}{% endmacro %}",
        "{{ text | attr('x') }}",
        "{{ text | center(1000000000) }}",
        "{% set x = 1 %}",
        "{{ cycler }}{{ lipsum() }}",
    ],
)
def test_a_template_that_is_more_than_a_template_is_refused_at_once(template: str) -> None:
    with pytest.raises(UserError):
        ask(template, row=example(text="hi"))


def test_shots_come_from_train_and_show_input_and_target() -> None:
    train = tuple(Example(f"t{i}", f"train {i}", "b", {"text": f"train {i}"}) for i in range(5))
    turns = ask("{{ text }}", row=example(text="hi"), shots=2, train=train, system="Be brief.")
    assert turns[0] == "system: Be brief." and turns[-1] == "user: hi"
    assert [turn.split(":")[0] for turn in turns[1:-1]] == ["user", "assistant"] * 2
    assert all("train" in turn for turn in turns[1:-1:2])


def test_shots_without_train_rows_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"never come from test.*init --split"):
        ask("{{ text }}", row=example(text="hi"), shots=2)


def test_shots_do_not_change_when_rows_are_reordered() -> None:
    train = tuple(Example(f"t{i}", f"train {i}", "b", {"text": f"train {i}"}) for i in range(9))
    assert ask("{{ text }}", row=example(text="hi"), shots=3, train=train) == ask(
        "{{ text }}", row=example(text="hi"), shots=3, train=train[::-1]
    )
