"""The table in docs/settings.md, generated from `watcher.config.settings`.

python -m tests.docs.settings      # prints it
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic._internal._docs_extraction import extract_docstrings_from_cls
from pydantic.fields import FieldInfo

from watcher.config.settings import Config


def rows() -> Iterator[str]:
    for key, field, description in settings(Config):
        yield f"| `{key}` | {default(field)} | {' '.join(description.split())} |"


def settings(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo, str]]:
    """Every setting with its dotted key and the docstring below it, in the order of the code."""
    # pydantic can do this for a model, but would then do it at the start of every command.
    descriptions = extract_docstrings_from_cls(section, use_inspect=True)
    for name, field in section.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is None or name in descriptions:
            yield prefix + name, field, descriptions.get(name, "")
        if inner is not None:
            yield from settings(inner, f"{prefix}{name}.")


def _section_in(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    return f"`{_as_toml(value)}`"


def _as_toml(value: Any) -> str:
    match value:
        case SecretStr():
            return f'"{value.get_secret_value()}"'
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(_as_toml, value))}]"
        case _:
            return str(value)


if __name__ == "__main__":
    print("\n".join(rows()))
