"""An example as the messages a candidate is asked with: system, shots, prompt.

A prompt is a template over the row's columns: `{{ synopsis }}`, or `{{ row["two words"] }}` where a column's name is no
name; `{{ example.input }}` is the input as read, `{{ labels }}` the task's labels. Templates are data, not programs: only
text, names, items, filters, conditions and one level of loops; no calls, no arithmetic that could grow without bound.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalft import prompt_filters, shots
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import UserError
from evalft.prompt_filters import NAMES as FILTERS
from evalft.records import Example, Message
from evalft.sequences import Spilled

MAX_PROMPT_CHARS = 2_000_000
RESERVED = ("row", "example", "labels")

_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.List,
    nodes.Tuple,
    nodes.Getitem,
    nodes.Getattr,
    nodes.Slice,
    nodes.Filter,
    nodes.Keyword,
    nodes.Test,
    nodes.If,
    nodes.For,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Concat,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a candidate for one example: messages end with the user's."""

    id: str
    index: int
    repeat: int
    messages: tuple[Message, ...]


def kept(requests: Iterable[Request]) -> Sequence[Request]:
    """The requests as a sequence of any length."""
    return Spilled(
        lambda one: (one.id, one.index, one.repeat, tuple(map(dict, one.messages))),
        lambda fields: Request(*fields),
        requests,
    )


UNLISTED = "{{ example.input }}\n\nLabel:"
"""For a model that scores labels (nothing is generated) in too short a context to list them all."""


def default_prompt(task: TaskConfig) -> str:
    """The template used where the config gives none; the resolved config shows it."""
    if task.type == "classification":
        return (
            "{{ example.input }}\n\n"
            'Which label fits the text above? Labels: {{ labels | join(", ") }}.\n'
            "Answer with the label only.\n"
            "Label:"
        )
    if task.type == "multilabel":
        comma = separator(task.labels or [])
        named = {",": "commas", ";": "semicolons", "|": "bars (|)"}[comma]
        return (
            "{{ example.input }}\n\n"
            f'Which labels apply to the text above? Labels: {{{{ labels | join("{comma} ") }}}}.\n'
            f"Answer with the labels that apply, separated by {named}, or none if no label applies.\n"
            "Labels:"
        )
    return "{{ example.input }}"


def separator(labels: Sequence[str]) -> str:
    """The first of , ; | that stands in no label."""
    return next((mark for mark in ",;|" if not any(mark in label for label in labels)), ",")


def target_text(task: TaskConfig, target: str | tuple[str, ...]) -> str:
    """The answer that a perfect candidate gives: what shots show and training teaches."""
    if isinstance(target, str):
        return target
    return f"{separator(task.labels or [])} ".join(target) if target else "none"


def check(template: str, where: str) -> list[str]:
    """Faults of a template, each `where: what`; empty when it is fine."""
    try:
        return _check(template, where)
    except TemplateSyntaxError as error:
        return [f"{where}: line {error.lineno} of the template: {error.message}"]
    except RecursionError:
        return [f"{where}: is nested too deep"]


def _check(template: str, where: str) -> list[str]:
    tree = _environment(prompt_filters.Work()).parse(template)
    faults = []
    for node in tree.find_all(nodes.Node):
        line = f"{where}: line {node.lineno} of the template"
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            near = difflib.get_close_matches(node.name, FILTERS, n=1)
            faults.append(f"{line}: filter {node.name!r} is not available" + (f"; {near[0]!r} is" if near else ""))
        elif isinstance(node, nodes.For) and any(True for _ in node.find_all(nodes.For)):
            faults.append(f"{line}: a loop in a loop is not allowed in a prompt")
        elif isinstance(node, nodes.Getattr | nodes.Getitem) and _name_of(node).startswith("_"):
            faults.append(f"{line}: {_name_of(node)!r} is not allowed: a prompt reads columns only")
        elif isinstance(node, nodes.Call):
            faults.append(f"{line}: a call is not allowed in a prompt; use a filter such as `| upper`")
        elif not isinstance(node, _ALLOWED) and not isinstance(node, nodes.Helper | nodes.EvalContextModifier):
            faults.append(f"{line}: {type(node).__name__} is not allowed in a prompt")
    return list(dict.fromkeys(faults))


def _name_of(node: nodes.Getattr | nodes.Getitem) -> str:
    if isinstance(node, nodes.Getattr):
        return node.attr
    return str(node.arg.value) if isinstance(node.arg, nodes.Const) else ""


def _environment(work: prompt_filters.Work) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    environment.filters = prompt_filters.bounded(environment.filters, work)
    return environment


def _compiled(text: str, where: str) -> Callable[[Mapping[str, object]], Iterator[str]]:
    """A checked template as a function from its columns to the pieces of its text; every loop is bounded."""
    work = prompt_filters.Work()
    environment = _environment(work)
    try:
        tree = environment.parse(text)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, prompt_filters.LOOP, [], [], None, None, lineno=loop.lineno)
        template = environment.from_string(tree)
    except (RecursionError, MemoryError, SyntaxError) as error:  # of the Python that jinja makes of it
        raise UserError(f"{where}: cannot be compiled: {error}; make it simpler") from None

    def render(columns: Mapping[str, object]) -> Iterator[str]:
        work.chars = 0
        return template.generate(columns)

    return render


def prompter(
    task: TaskConfig,
    candidate: CandidateConfig,
    train: Sequence[Example],
    *,
    raw: bool = False,
    seed: int = 0,
    held_out: int = 0,
) -> Callable[[Example], tuple[Message, ...]]:
    """A function from an example to the messages this candidate is asked with.

    Shots are train rows, as `evalft.shots` picks them. `raw` asks with the input alone (sequence classifiers take no
    instruction). `held_out`: how many train rows were set aside as dev rows. Raises UserError where the template or the shots cannot be made.
    """
    if raw:
        return lambda example: ({"role": "user", "content": _plain(example.input)},)
    where = f"candidate {candidate.name}: prompt" if candidate.prompt else "task.prompt"
    template_text = candidate.prompt or task.prompt or default_prompt(task)
    faults = check(template_text, where)
    if candidate.shots.count > len(train):
        have = f"there are only {len(train)} train rows" if train else "there are no train rows"
        if held_out:
            have += f" beside {held_out} that are held out as dev rows, which no shot comes from"
            remedy = f"ask for {len(train)} at most, add train rows, or name dev rows of their own at task.dev"
        else:
            remedy = "name a file at task.train, or make one with `evalft init --split`"
        faults.append(
            f"candidate {candidate.name}: shots: {candidate.shots.count}: {have}; shots never come from test: {remedy}"
        )
    if faults:
        raise UserError(*faults)
    template = _compiled(template_text, where)
    system = candidate.system if candidate.system is not None else task.system
    labels = task.labels or []
    own_prompt = bool(candidate.prompt or task.prompt)

    def user_turns(example: Example) -> tuple[Message, ...]:
        if not isinstance(example.input, str):
            if own_prompt:
                raise UserError(f"{where}: rows with chat messages are asked as they are; remove the prompt")
            return tuple(example.input)
        return ({"role": "user", "content": _render(template, example, labels, where)},)

    head: list[Message] = [{"role": "system", "content": system}] if system else []
    shots_for = shots.picker(candidate.shots, train, seed=seed)
    shown: dict[str, tuple[Message, ...]] = {}
    """Each shot as turns, by the id of its row: rendered once, whatever number of rows it is shown to."""

    def messages(example: Example) -> tuple[Message, ...]:
        turns: list[Message] = []
        for shot in shots_for(example):
            if shot.id not in shown:
                shown[shot.id] = (*user_turns(shot), {"role": "assistant", "content": target_text(task, shot.target)})
            turns += shown[shot.id]
        return (*head, *turns, *user_turns(example))

    return messages


def _plain(text: str | tuple[Message, ...]) -> str:
    return text if isinstance(text, str) else "\n".join(turn["content"] for turn in text)


def _render(
    template: Callable[[Mapping[str, object]], Iterator[str]], example: Example, labels: Sequence[str], where: str
) -> str:
    columns: Mapping[str, object] = example.row
    context = {name: value for name, value in columns.items() if name not in RESERVED}
    context |= {"row": columns, "labels": labels, "example": {"id": example.id, "input": example.input}}
    length = 0
    parts: list[str] = []
    try:
        for part in template(context):
            parts.append(part)
            length += len(part)
            if length > MAX_PROMPT_CHARS:
                raise UserError(f"{example.source}: {where} renders to over {MAX_PROMPT_CHARS:,} characters")
    except UndefinedError as error:
        names = ", ".join(columns)
        raise UserError(f"{example.source}: {where}: {error.message}; the row has the columns: {names}") from None
    except UserError:
        raise
    except Exception as error:  # whatever a template makes of a row, it is the template's and the row's
        raise UserError(f"{example.source}: {where} cannot be rendered: {error or type(error).__name__}") from None
    return "".join(parts)
