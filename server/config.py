"""Settings of the server: defaults, then a TOML file, then the environment, then flags; later wins. Read once.

`__main__.py` calls `load` in the main thread; everybody else is handed the frozen result.
"""

from __future__ import annotations

import argparse
import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

EngineKind = Literal["embedded", "synthetic"]
LogLevel = Literal["debug", "info", "warning", "error"]
ENVIRONMENT_PREFIX = "SCENESHIFT_"
MIN_TOKEN_CHARACTERS = 16


class ConfigError(Exception):
    """A setting that cannot be used: `setting` names it, `source` says where it came from."""

    def __init__(self, setting: str, message: str, source: str) -> None:
        super().__init__(f"{setting} ({source}): {message}")
        self.setting = setting
        self.source = source


@dataclass(frozen=True, slots=True)
class Settings:
    """What `sceneshift serve` is run with."""

    host: str = "127.0.0.1"
    port: int = 8080
    # Needed by every client if set; made up when the server is bound to an address that others can reach.
    token: str | None = field(default=None, repr=False)
    engine: EngineKind = "embedded"
    model: str = "embedded"
    max_sessions: int = 8
    # One viewer costs up to 0.02 CPU seconds a second on the ready-packet path: 32 leave the engine its cores.
    max_viewers: int = 32
    resume_grace_s: float = 60.0
    # Pages of other origins that may use this server, as `https://stage.example`; their host names are accepted, too.
    allowed_origins: tuple[str, ...] = ()
    log_level: LogLevel = "info"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of `sceneshift serve ARGUMENTS`. Raises `ConfigError`; argparse exits on unknown flags."""
    flags = vars(_parser().parse_args(arguments))
    config_path = flags.pop("config") or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    values: dict[str, Any] = {}
    if config_path:
        values |= _from_file(Path(config_path))
    values |= _from_environment(environment)
    for name, text in flags.items():
        if text is not None:
            values[name] = _parsed(name, text, f"--{name.replace('_', '-')}")
    return Settings(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sceneshift serve",
        description="Serve stages: prompts in over WebSocket, live video out over WebRTC.",
        epilog="Every flag is also a key of the TOML file (with _ for -) and a variable SCENESHIFT_NAME.",
    )
    parser.add_argument("--config", metavar="FILE", help="a TOML file with any of these settings")
    parser.add_argument("--host", help="address to bind; any but loopback needs an access token (default 127.0.0.1)")
    parser.add_argument("--port", help="TCP port; 0 takes a free one (default 8080)")
    parser.add_argument("--token", help="the access token; better given as SCENESHIFT_TOKEN, where `ps` cannot see it")
    parser.add_argument("--engine", help="embedded (default) or synthetic (no model: numbered pictures, for tests)")
    parser.add_argument("--model", help="the model profile (default embedded)")
    parser.add_argument("--max-sessions", help="how many stages at once (default 8)")
    parser.add_argument("--max-viewers", help="how many viewers a stage may have (default 32)")
    parser.add_argument("--resume-grace-s", help="how long a stage outlives its controller's connection (default 60)")
    parser.add_argument("--allowed-origins", help="origins of other pages that may connect, with commas between")
    parser.add_argument("--log-level", help="debug, info (default), warning or error")
    return parser


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError("config", f"cannot be read: {error.strerror}", str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", f"is not TOML: {error}", str(path)) from None
    return {name: _parsed(name, value, str(path)) for name, value in table.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Only names that are settings: other programs may share the prefix."""
    names = {ENVIRONMENT_PREFIX + setting.name.upper(): setting.name for setting in fields(Settings)}
    return {
        name: _parsed(name, environment[variable], variable)
        for variable, name in names.items()
        if environment.get(variable, "") != ""
    }


def _parsed(name: str, value: object, source: str) -> object:
    """`value` (text, or what TOML gives) as the setting `name`, checked."""
    match name:
        case "port":
            return _integer(name, value, source, low=0, high=65535)
        case "max_sessions":
            return _integer(name, value, source, low=1, high=1000)
        case "max_viewers":
            return _integer(name, value, source, low=1, high=1000)
        case "resume_grace_s":
            return _seconds(name, value, source, high=3600.0)
        case "engine":
            return _one_of(name, value, source, get_args(EngineKind))
        case "log_level":
            return _one_of(name, value, source, get_args(LogLevel))
        case "token":
            return _token(value, source)
        case "allowed_origins":
            return _origins(value, source)
        case "host" | "model":
            return _text(name, value, source)
        case _:
            known = ", ".join(setting.name for setting in fields(Settings))
            raise ConfigError(name, f"there is no such setting; known: {known}", source)


def _integer(name: str, value: object, source: str, *, low: int, high: int) -> int:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise ConfigError(name, f"expected a whole number, got {value!r}", source) from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(name, f"expected a whole number, got {value!r}", source)
    if not low <= value <= high:
        raise ConfigError(name, f"expected {low} to {high}, got {value}", source)
    return value


def _seconds(name: str, value: object, source: str, *, high: float) -> float:
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:
        seconds = None
    if seconds is None or not 0.0 <= seconds <= high:
        raise ConfigError(name, f"expected 0 to {high:g} seconds, got {value!r}", source)
    return seconds


def _one_of(name: str, value: object, source: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(name, f"expected one of {', '.join(choices)}, got {value!r}", source)
    return value


def _text(name: str, value: object, source: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(name, f"expected a word, got {value!r}", source)
    return value.strip()


def _token(value: object, source: str) -> str:
    # The message must not repeat the value: it is a secret, if a bad one.
    if not isinstance(value, str) or len(value) < MIN_TOKEN_CHARACTERS or not value.isascii() or " " in value:
        reason = (
            f"expected {MIN_TOKEN_CHARACTERS} or more ASCII characters without spaces (`sceneshift token` makes one)"
        )
        raise ConfigError("token", reason, source)
    return value


def _origins(value: object, source: str) -> tuple[str, ...]:
    origins = value.split(",") if isinstance(value, str) else value
    if not isinstance(origins, list):
        raise ConfigError("allowed_origins", f"expected a list of origins, got {value!r}", source)
    return tuple(_origin(origin, source) for origin in origins)


def _origin(value: object, source: str) -> str:
    origin = value.strip().rstrip("/").lower() if isinstance(value, str) else ""
    scheme, separator, host = origin.partition("://")
    if scheme not in ("http", "https") or not separator or not host or "/" in host:
        raise ConfigError("allowed_origins", f"expected origins like https://stage.example, got {value!r}", source)
    return origin
