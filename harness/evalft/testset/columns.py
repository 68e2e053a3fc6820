"""Which columns hold the input and the target: the config's, a recognised shape, or the only column with a known name.

Three shapes are more than a column: OpenAI chat rows (`messages`, or ShareGPT's `conversations`: the last assistant
message is the target, what precedes it the input), Alpaca rows (`input: alpaca` joins instruction and input), and
prompt/completion rows, which are plain column names, with text or chat messages in them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.records import Message
from evalft.testset.rows import BadValue, Row, Table, as_text, is_missing, kind_of, listed

CHAT = ("messages", "conversations")
ALPACA = "alpaca"
ALPACA_COLUMNS = ("instruction", "input", "output")

INPUT_NAMES = frozenset(
    "input inputs text texts question prompt instruction query sentence utterance message content review comment tweet "
    "body source document article request post passage problem user_input input_text".split()
)
TARGET_NAMES = frozenset(
    "target targets label labels answer answers output outputs completion intent intents category categories class "
    "classes response expected expected_output expected_answer reference gold ideal sentiment emotion emotions topic "
    "topics tag tags genre genres summary translation solution ground_truth target_text label_text".split()
)
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


def choose(tables: Iterable[Table], task: TaskConfig) -> tuple[str, str, list[str]]:
    """(input, target, what was assumed). Raises UserError, with every column listed, unless exactly one fits each."""
    tables = list(tables)
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    if _is_alpaca(columns, task):
        said = [] if task.input else ["input: Alpaca rows: instruction, then input where there is one; target: output"]
        return ALPACA, "output", said
    if task.input and task.target:
        return task.input, task.target, []
    free = [column for column in columns if column not in (task.id, task.group, *task.slices)]
    inputs = [task.input] if task.input else _known(free, INPUT_NAMES.union(CHAT), but=task.target)
    if task.target in CHAT:
        inputs = [task.input or task.target]
    targets = [task.target] if task.target else _known(free, TARGET_NAMES, but=task.input)
    if not task.target and len(inputs) == 1 and inputs[0] in CHAT and _ends_with_answers(tables, inputs[0]):
        targets = [inputs[0], *targets]
    others = [
        column for column in free if column not in (*inputs, *targets) and column.lower() not in ("id", "idx", "index")
    ]
    only_other = []
    if len(others) == 1 and _is_plain(tables, others[0]) and sorted((len(inputs), len(targets))) == [0, 1]:
        only_other = ["input" if not inputs else "target"]
        inputs, targets = inputs or others, targets or others
    if len(inputs) != 1 or len(targets) != 1:
        raise _unclear(tables, columns, inputs, targets)
    if inputs == targets:
        return inputs[0], targets[0], [f"input: the chat in {inputs[0]!r}; target: its last assistant message"]
    said = []
    for what, given, column in (("input", task.input, inputs[0]), ("target", task.target, targets[0])):
        if not given:
            why = ", the only other column" if what in only_other else ""
            said.append(f"{what}: column {column!r}{why} (--{what} names another)")
    return inputs[0], targets[0], said


def _is_alpaca(columns: list[str], task: TaskConfig) -> bool:
    free = task.input is None or (task.input == ALPACA and ALPACA not in columns)
    return free and task.target in (None, "output") and set(ALPACA_COLUMNS) <= set(columns)


def _known(columns: Iterable[str], names: Iterable[str], but: str | None) -> list[str]:
    known = set(names)
    return [column for column in columns if column != but and re.sub(r"[\s\-]+", "_", column.lower()) in known]


def _ends_with_answers(tables: Iterable[Table], column: str) -> bool:
    for table in tables:
        for row in table.rows:
            try:
                chat_of(row, column)
                return True
            except BadValue:
                continue
    return False


def _is_plain(tables: Iterable[Table], column: str) -> bool:
    """Whether a column's first value is one that an input or a target can be."""
    values = (row.get(column) for table in tables for row in table.rows)
    first = next((value for value in values if not is_missing(value)), None)
    return isinstance(first, str | int | float) or (isinstance(first, list) and all(isinstance(x, str) for x in first))


def _unclear(tables: list[Table], columns: list[str], inputs: list[str], targets: list[str]) -> UserError:
    faults = []
    for what, found in (("input", inputs), ("target", targets)):
        if len(found) != 1:
            why = (
                f"columns {listed(found)} could each be the {what}"
                if found
                else f"no column has a name known for the {what}"
            )
            faults.append(
                f"{tables[0].path}: {why}; name it with --{what} COLUMN (task.{what}), the type with --type TYPE"
            )
    faults.append(f"{tables[0].path}: its columns are {listed(columns, 30)}")
    return UserError(*faults, *(f"{table.path}: {table.header_hint}" for table in tables[:1] if table.header_hint))


def missing(table: Table, wanted: Mapping[str, str]) -> list[str]:
    """A fault for each column that no row of the file has; `wanted` is {column: the config key that names it}."""
    faults = []
    for column, key in wanted.items():
        if column not in table.columns:
            near = difflib.get_close_matches(column, list(table.columns), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            faults.append(f"no column {column!r} ({key}); {hint}its columns are {listed(table.columns, 30)}")
    return faults + ([table.header_hint] if faults and table.header_hint else [])


def wanted(task: TaskConfig) -> dict[str, str]:
    """The columns that every row must have, with the config key that names each."""
    inputs = ALPACA_COLUMNS[:2] if task.input == ALPACA else (task.input or "",)
    return (
        dict.fromkeys(task.slices, "task.slices")
        | ({task.group: "task.group"} if task.group else {})
        | {task.target or "": "task.target"}
        | dict.fromkeys(inputs, "task.input")
    )


# ---------------------------------------------------------------- values


def input_of(row: Row, column: str) -> str | tuple[Message, ...]:
    """The input's text or chat messages. Raises BadValue."""
    if column == ALPACA:
        instruction = _filled(as_text(value_of(row, "instruction"), "the instruction"), "the instruction")
        more = row.get("input")
        text = "" if is_missing(more) else as_text(more, "the input")
        return f"{instruction}\n\n{text}" if text.strip() else instruction
    value = value_of(row, column)
    if isinstance(value, list):
        return _messages(value)
    return _filled(as_text(value, "the input"), "the input")


def chat_of(row: Row, column: str) -> tuple[tuple[Message, ...], str]:
    """(the messages before the answer, the answer) of a chat that ends with the assistant. Raises BadValue."""
    value = value_of(row, column)
    if not isinstance(value, list):
        raise BadValue(f"{column!r} is {kind_of(value)}, not a list of messages")
    *before, last = _messages(value)
    if last["role"] != "assistant":
        raise BadValue(f"the last message is the {last['role']}'s, not the assistant's: there is no target")
    if not before:
        raise BadValue("there is no message before the assistant's")
    return tuple(before), _filled(last["content"], "the target")


def answer_of(value: object) -> object:
    """The text of a target that is written as chat ([{role: assistant, content}] or one message); else the value itself."""
    message = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(message, dict) and {"role", "from"} & message.keys():
        return _message(message)["content"]
    return value


def value_of(row: Row, column: str) -> object:
    try:
        return row[column]
    except KeyError:
        near = difflib.get_close_matches(column, list(row), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadValue(f"no column {column!r} (the row has {listed(row)}){hint}") from None


def _messages(value: list[object]) -> tuple[Message, ...]:
    if not value:
        raise BadValue("the input is empty")
    messages = tuple(_message(item) for item in value)
    if not any(message["content"].strip() for message in messages):
        raise BadValue("the input is empty")
    return messages


def _message(item: object) -> Message:
    """{role, content} of OpenAI or {from, value} of ShareGPT."""
    if not isinstance(item, dict):
        raise BadValue(f"a message is {kind_of(item)}, not an object with role and content")
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if not isinstance(role, str) or role not in _ROLES:
        raise BadValue(f"a message has the role {str(role)[:40]!r}; known: {', '.join(_ROLES)}")
    if isinstance(content, list):  # OpenAI's content parts
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            raise BadValue("a message has parts that are not text")
        content = "".join(as_text(part.get("text"), "a message") for part in content)
    return {"role": _ROLES[role], "content": as_text(content, "the content of a message")}


def _filled(text: str, what: str) -> str:
    if not text.strip():
        raise BadValue(f"{what} is empty")
    return text
