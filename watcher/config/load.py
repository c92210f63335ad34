"""Loads the settings: TOML becomes a frozen `Config`, or an error with the key, the value and the fix."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from watcher.config.checks import contradictions
from watcher.config.settings import Config
from watcher.errors import ConfigError
from watcher.text import truncated

DEFAULT_FILE = Path("watcher.toml")
"""Read from the working directory if no file is named. Without it, every setting has its default."""

SHOWN_VALUE_LIMIT = 60
"""Characters of a wrong value in an error."""

MIN_REPLACED_CHARS = 6

TEXT_VARIABLE = "WATCHER_TOML"
"""The environment variable that can hold the text of the settings, for places where a file is awkward, such
as an ECS task, which takes it from a parameter or a secret."""

SettingPath = tuple[int | str, ...]


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """Read the settings; `${NAME}` in a string is replaced from `env`.

    Raises `ConfigError`: one line with the file or variable, the key, the value and the fix. The value is
    shown as written, so with `${NAME}` not replaced, and is not shown for a secret or an unknown key.
    """
    found = source(path, env)
    if found is None:
        return Config()
    try:
        text = _read(found) if isinstance(found, Path) else env[found]
        return _checked(_parse(text), env)
    except ConfigError as error:
        raise ConfigError(f"{found}: {error}") from None


def source(path: Path | None, env: Mapping[str, str]) -> Path | str | None:
    """Where `load` finds the settings: the file that was named, else the name of the variable that holds
    them, else the file in the working directory, else None."""
    if path is not None:
        return path
    if env.get(TEXT_VARIABLE):
        return TEXT_VARIABLE
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _checked(document: dict[str, Any], env: Mapping[str, str]) -> Config:
    try:
        config = Config.model_validate(_fill_in(document, env, ()))
    except ValidationError as error:
        raise ConfigError(_explain(error, document)) from None
    for key, problem in contradictions(config):
        raise ConfigError(_as_written(f"{key}: {problem}", document, env))
    return config


def _read(path: Path) -> str:
    try:
        # Editors on Windows start a file with a byte order mark, which TOML does not allow.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file; choose one with --config") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}") from None


_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def _fill_in(value: Any, env: Mapping[str, str], key: SettingPath) -> Any:
    """The value, with each `${NAME}` in its strings replaced."""

    def variable(match: re.Match[str]) -> str:
        name = match[1]
        if name not in env:
            raise ConfigError(f"{_dotted(key)}: the variable {name} is not set; export it, or remove the key")
        return _of_variable(name, env)

    if isinstance(value, str):
        return _VARIABLE.sub(variable, value)
    if isinstance(value, list):
        return [_fill_in(item, env, (*key, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _fill_in(item, env, (*key, name)) for name, item in value.items()}
    return value


def _of_variable(name: str, env: Mapping[str, str]) -> str:
    """Without the line end with which editors, `echo` and files of secrets end a value."""
    return env[name].rstrip("\r\n")


def _as_written(sentence: str, document: dict[str, Any], env: Mapping[str, str]) -> str:
    """The sentence with `${NAME}` for the values of the variables that the settings use, which may be secret.
    A value of a few characters, which may stand anywhere by chance, is replaced only where it is quoted."""
    used = {(name, _of_variable(name, env)) for name in _variables(document) if env[name].strip()}
    for name, value in sorted(used, key=lambda pair: len(pair[1]), reverse=True):
        text = re.escape(value)
        pattern = text if len(value) >= MIN_REPLACED_CHARS else f"(?<=[\"'=:]){text}(?=[\"'])"
        sentence = re.sub(pattern, lambda _, name=name: f"${{{name}}}", sentence, flags=re.IGNORECASE)  # type: ignore[misc]
    return sentence


def _variables(value: Any) -> Iterator[str]:
    """The names of all variables in these settings."""
    if isinstance(value, str):
        yield from _VARIABLE.findall(value)
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _variables(item)


def _dotted(key: SettingPath) -> str:
    """`("route", 1, "stop")` as people write it: `route[1].stop`, counted from 0."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


# -- what is wrong with one value -----------------------------------------------------------------


def _explain(error: ValidationError, document: dict[str, Any]) -> str:
    """The first problem, in one sentence."""
    detail = error.errors(include_url=False, include_input=False)[0]
    key = detail["loc"]
    if detail["type"] == "extra_forbidden":
        return f"{_dotted(key)}: unknown key; {_did_you_mean(key)}"
    if detail["type"] == "missing":
        return f"{_dotted(key)}: is missing"
    value: Any = document
    for part in key:
        value = value[part]
    shown = f" = {_as_toml(value)}" if _may_be_shown(key) else ""
    return f"{_dotted(key)}{shown}: {_fix(detail, key, value)}"


def _fix(detail: ErrorDetails, key: SettingPath, value: Any) -> str:
    match detail["type"].split("_")[0]:
        case "tuple" if isinstance(value, dict):
            return f"write [[{_dotted(key)}]], because there can be several"
        case "tuple":
            return f"write a list: [{_as_toml(value)}]"
        case "greater" if "gt" in detail["ctx"]:
            return f"must be more than {detail['ctx']['gt']:g}"
        case "greater":
            return f"must be at least {detail['ctx']['ge']:g}"
        case "float" if isinstance(value, dict) and key[0] == "prices":
            return 'write the instance type in quotes: "ml.p4d.24xlarge" = 37.69'
        case "literal":
            return f"write one of {detail['ctx']['expected']}"
        case "model" | "dict":
            return f"write a table: [{_dotted(key)}]"
        case kind:
            return _FIXES.get(kind, detail["msg"])


_FIXES = {
    "bool": "write true or false",
    "string": "write a string, in quotes",
    "int": "write a whole number",
    "float": "write a number",
    "finite": "write a number",
}
"""By the first word of pydantic's error type (`bool_parsing`, `bool_type`)."""


def _as_toml(value: Any) -> str:
    """A value on one line, roughly as the file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{truncated(value, SHOWN_VALUE_LIMIT)}"'
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, list):
        return "[…]"
    return str(value)


def _annotation(key: SettingPath) -> Any:
    """The declared type of the field at this key; None if there is no such field."""
    kind: Any = Config
    for part in key:
        if isinstance(part, int):
            kind = get_args(kind)[0]
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        else:
            return None
    return kind


def _may_be_shown(key: SettingPath) -> bool:
    """True unless the key is a secret, or is a section, which may hold one."""
    kind = _annotation(key)
    return kind is not SecretStr and not (isinstance(kind, type) and issubclass(kind, BaseModel))


def _did_you_mean(key: SettingPath) -> str:
    known = list(_annotation(key[:-1]).model_fields)
    close = get_close_matches(str(key[-1]), known, n=1)
    if close:
        return f"did you mean {_dotted((*key[:-1], close[0]))}?"
    return f"the keys here are {', '.join(known)}"
