"""Reading a YAML file into a pydantic model: every error at once, each with its line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent

from shared.errors import SettingsError

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """Read and validate a YAML file.

    Raises `SettingsError` with one line per problem, `<file>:<line>: <field>: <what is wrong>`.
    Values that were given are not repeated, for one may be a secret.
    """
    document = load_yaml(path)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SettingsError(str(path), list(explain(error, path, document))) from error


def explain(
    error: ValidationError, path: Path, document: Any, below: Sequence[str | int] = ()
) -> Iterator[str]:
    """Write each problem of a validation error with its line; `below` is where the model stands."""
    for problem in problems_in(error, below):
        yield complaint(path, document, problem.place, problem.text)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place of a document; the value itself is not repeated."""

    place: tuple[str | int, ...]
    text: str

    @property
    def path(self) -> str:
        """The place as people write it: `devices[3].points[2].unit`."""
        names = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place)
        return "".join(names).removeprefix(".")

    def __str__(self) -> str:
        """Say place and text."""
        return f"{self.path or '(whole document)'}: {self.text}"


def problems_in(error: ValidationError, below: Sequence[str | int] = ()) -> Iterator[Problem]:
    """Yield each problem of a validation error; `below` is where the model stands."""
    for problem in error.errors(include_input=False, include_url=False):
        yield Problem((*below, *problem["loc"]), problem["msg"])


def complaint(path: Path, document: Any, place: Sequence[str | int], text: str) -> str:
    """Write one problem: `<file>:<line>: <field>: <text>`."""
    name = ".".join(str(part) for part in place) or "(whole file)"
    return f"{path}:{line_of(document, place)}: {name}: {text}"


def line_of(document: Any, place: Sequence[str | int]) -> int:
    """Tell the line (from 1) of the deepest part of `place` that the document has."""
    node, line = document, 1
    for part in place:
        found = _line_in(node, part)
        if found is None:
            break
        line = found
        node = node[part]
    return line


def _line_in(node: Any, part: str | int) -> int | None:
    if isinstance(node, CommentedMap) and part in node:
        return int(node.lc.key(part)[0]) + 1
    if isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
        # A list that is made of tagged maps has no lines of its own.
        return None if node.lc.data is None else int(node.lc.item(part)[0]) + 1
    return None


def load_yaml(path: Path) -> CommentedMap:
    """Load a YAML map with the lines of its parts; raises `SettingsError`."""
    source = str(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror}"
        raise SettingsError(source, [problem]) from error
    except UnicodeDecodeError as error:
        raise SettingsError(source, [f"{path}: is not UTF-8 text (byte {error.start})"]) from error
    if len(text) > MAX_FILE_BYTES:
        raise SettingsError(source, [f"{path}: is larger than {MAX_FILE_BYTES} bytes"])
    try:
        _refuse_aliases(path, text)
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(source, [f"{path}:{line}: {error.problem}"]) from error
    except YAMLError as error:
        raise SettingsError(source, [f"{path}:1: is not YAML: {error}"]) from error
    except (TypeError, ValueError) as error:
        # ruamel lets Python's own errors out, such as for a map that is used as a key.
        problem = f"{path}: holds a key or value that cannot be read: {error}"
        raise SettingsError(source, [problem]) from error
    if not isinstance(document, CommentedMap):
        raise SettingsError(source, [f"{path}:1: must be a map of settings"])
    return document


def _refuse_aliases(path: Path, text: str) -> None:
    # An alias lets a few hundred bytes unfold to gigabytes while they are validated.
    if "*" not in text:
        return  # to parse a large file once more takes as long as all the rest of a start
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, AliasEvent):
            line = event.start_mark.line + 1
            raise SettingsError(str(path), [f"{path}:{line}: aliases (*name) are not supported"])
