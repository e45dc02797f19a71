"""Reads run configs: YAML, overrides from the command line, and errors that name the place and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, Discriminator, Tag, ValidationError

from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.config.yaml_files import dump_yaml, parse_yaml, read_yaml
from iit_toolkit.errors import Mistake, UserError, did_you_mean, mistakes, one_line, shown
from iit_toolkit.files.paths import require_path
from iit_toolkit.files.text_files import MAX_DEPTH

ConfigT = TypeVar("ConfigT", bound=BaseModel)
AnyRunConfig: TypeAlias = RunConfig | NetworkRunConfig
"""A run of models of transformers, or one of programs and other networks."""
_TEXTS, _NETWORKS = "texts", "networks"


def _kind(config: Any) -> str:
    """Return which of both a config is, or will be: of networks if its `teacher` holds keys."""
    of_networks = isinstance(config, NetworkRunConfig)
    if isinstance(config, dict):
        of_networks = isinstance(cast(dict[str, Any], config).get("teacher"), dict)
    return _NETWORKS if of_networks else _TEXTS


RunSection = Annotated[
    Annotated[RunConfig, Tag(_TEXTS)] | Annotated[NetworkRunConfig, Tag(_NETWORKS)], Discriminator(_kind)
]
"""The same as a section of another file; which of both it is, is told as `load_config` tells it."""
_LONG = 80  # characters of an override in a message
_MOST_MISTAKES = 5  # in one message
ASSETS = Path(__file__).resolve().parents[1] / "assets"
EMBEDDED_TEACHER = str(ASSETS / "teacher")
"""A small masked language model of Python's documentation, which comes with the package."""


def load_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> AnyRunConfig:
    """Read a config; overrides win over the file, and the file over the defaults.

    It is one of networks if its `teacher` holds keys, such as {program: file.py:name}, and one of models of
    transformers otherwise.

    Args:
        path_or_name: A YAML file, or the name of a bundled config such as `quickstart`.
        overrides: Settings as `dotted.key=value`; the value is read as YAML.

    Raises:
        UserError: If there is no such config, it is not valid YAML, or a key or value is wrong.
    """
    document, where = read_mapping(_config_path(path_or_name)), f"config {path_or_name}"
    for override in overrides:
        apply_override(document, override)
    _refuse_overruled(document, overrides)
    schema = NetworkRunConfig if _kind(document) == _NETWORKS else RunConfig
    return parse_config(schema, document, (), where)


def _refuse_overruled(document: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse a setting from the command line that an arm of the file sets itself: it would reach some arms only."""
    paths = [override.partition("=")[0] for override in overrides]
    arms: Any = document.get("arms")
    for path in paths:
        section, _, rest = path.partition(".")
        key = rest.partition(".")[0]
        for name, arm in arms.items() if key and isinstance(arms, Mapping) else ():
            own: Any = arm.get(section) if isinstance(arm, Mapping) else None
            given = any(f"arms.{name}.{path}.".startswith(f"{other}.") for other in paths)
            if isinstance(own, Mapping) and key in own and not given:
                raise UserError(
                    f"{path:.80} does not reach arms.{name}, which has its own {section}.{key} ({shown(own[key])}); "
                    f"give arms.{name}.{path:.80}, too"
                )


def load_text_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config as `load_config`, of models of transformers only.

    Raises:
        UserError: As for `load_config`, or if it is one of programs or other networks.
    """
    return text_config(load_config(path_or_name, overrides))


def text_config(config: AnyRunConfig) -> RunConfig:
    """Return a config if it is one of models of transformers.

    Raises:
        UserError: If it is one of programs or other networks.
    """
    if not isinstance(config, RunConfig):
        raise UserError(
            f"config {config.name}: its teacher is a program or a network of torch, for which validate, explain, run, "
            "train, verify, search, report, export, compare, suite, gate and ls work; use one of these, or a model of "
            "transformers"
        )
    return config


def parse_config(
    schema: type[ConfigT], document: dict[str, Any], overrides: Sequence[str] = (), where: str = "config"
) -> ConfigT:
    """Make a config from plain data; overrides win.

    Args:
        schema: The class of the config.
        document: Its keys and values; changed by the overrides.
        overrides: Settings as `dotted.key=value`; the value is read as YAML.
        where: What messages call the config.

    Raises:
        UserError: If a key or value is wrong.
    """
    for override in overrides:
        apply_override(document, override)
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{where}: {_describe(error, schema)}") from error


def bundled_configs() -> list[str]:
    """Return the names of the configs that come with the package."""
    return sorted(path.stem for path in ASSETS.glob("*.yaml"))


def dump_config(config: BaseModel) -> str:
    """Write a config of any kind as YAML that its loader reads back to an equal one, all defaults spelled out.

    Raises:
        UserError: If it holds what YAML cannot express, or holds itself.
    """
    try:
        content = config.model_dump(mode="json")
    except (ValueError, RecursionError) as error:  # from what Python put into it
        raise UserError(
            f"the config can't be written ({one_line(error)}); give plain data that does not hold itself"
        ) from None
    return dump_yaml(content)


def config_schema(*, networks: bool = False) -> dict[str, Any]:
    """Return the JSON schema of a config, for editors that complete and check YAML.

    Args:
        networks: Whether it is that of a config of programs and networks.
    """
    return schema_of(NetworkRunConfig if networks else RunConfig)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a file's model, for editors that complete and check YAML."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


def _config_path(path_or_name: str | Path) -> Path:
    name = require_path(path_or_name, "config")
    path = Path(path_or_name)
    if path.is_file():
        return path
    if name in bundled_configs():
        return ASSETS / f"{name}.yaml"
    if path.is_dir():
        raise UserError(f"{path} is a folder; a config is a YAML file")
    if path.exists():
        raise UserError(f"{path} is no regular file; a config is a YAML file")
    raise UserError(f'no config file and no bundled config "{name}": {did_you_mean(name, bundled_configs())}')


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds keys and values.

    Raises:
        UserError: If it can't be read, is not valid YAML, or holds something else.
    """
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path}: must hold keys and values, such as `teacher: embedded`")
    return cast(dict[str, Any], document)


def apply_override(document: dict[str, Any], override: str) -> None:
    """Apply an override, `dotted.key=value` with a value in YAML.

    Raises:
        UserError: If it is not an override, or its key lies under a value.
    """
    key, equals, text = override.partition("=")
    parts, where = key.split("."), f'override "{override}"' if len(override) <= _LONG else f"override {shown(override)}"
    if not equals or not all(parts):
        raise UserError(f"{where}: write it as key=value, such as training.learning_rate=3e-4")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{where}: no key lies {len(parts):,} levels deep; settings have at most {MAX_DEPTH}")
    value = parse_yaml(text, where)
    section = document
    for depth, part in enumerate(parts[:-1], start=1):
        inner = section.get(part)
        if inner is None:
            inner = section[part] = {}
        if not isinstance(inner, dict):
            raise UserError(f"{where}: {'.'.join(parts[:depth])} holds a value, not further keys")
        section = cast(dict[str, Any], inner)
    section[parts[-1]] = value


def _describe(error: ValidationError, schema: type[BaseModel]) -> str:
    """Return the mistakes of a config on one line, wrong keys first: other mistakes often follow from them."""
    found = sorted(mistakes(error), key=lambda mistake: mistake.kind != "extra_forbidden")
    by_place: dict[str, list[str]] = {}
    given: set[str] = set()
    for mistake in found[:_MOST_MISTAKES]:
        keys, section = _place_of(mistake.keys, schema)
        by_place.setdefault(".".join(keys), []).append(_describe_one(mistake, keys, section, given))
    told_of = [f"{place}: {' or '.join(texts)}" if place else " or ".join(texts) for place, texts in by_place.items()]
    if len(found) > _MOST_MISTAKES:
        told_of.append(f"and {len(found) - _MOST_MISTAKES:,} more mistakes")
    return "; ".join(told_of)


def _describe_one(mistake: Mistake, keys: list[str], section: Any, given: set[str]) -> str:
    """One mistake in words; the hints in `given` are not repeated."""
    if mistake.kind == "extra_forbidden":
        hint = did_you_mean(keys[-1], list(section.model_fields) if _is_section(section) else [])
        repeated = hint in given
        given.add(hint)
        return "unknown key" if repeated else f"unknown key, {hint}"
    if mistake.kind == "missing":
        return "this key is missing"
    if mistake.kind == "value_error":
        return mistake.message
    return f"{mistake.inside}, not {shown(mistake.given)}{mistake.remedy}"


def _place_of(location: tuple[int | str, ...], schema: type[BaseModel]) -> tuple[list[str], Any]:
    """Return the keys of an error's place, and what holds the last of them.

    The names that pydantic adds for the alternatives of a union are no keys.
    """
    keys: list[str] = []
    annotation: Any = schema
    section: Any = None
    for part in location:
        inner = _inner(annotation, str(part))
        if inner is None:
            break
        if not _is_choice(annotation):
            keys.append(str(part))
            section = annotation
        annotation = inner
    return keys or [str(part) for part in location], section


def _inner(annotation: Any, key: str) -> Any:
    """Return what is under a key of a section or mapping; None if nothing is known of it."""
    if _is_section(annotation):
        field = annotation.model_fields.get(key)
        return Any if field is None else field.annotation
    if _is_choice(annotation):
        return next((one.__origin__ for one in get_args(annotation) if Tag(key) in one.__metadata__), None)
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return None


def _is_choice(annotation: Any) -> bool:
    """Whether this is a union whose alternatives have tags, which pydantic adds to the place of an error."""
    return bool(get_args(annotation)) and all(get_origin(one) is Annotated for one in get_args(annotation))


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
