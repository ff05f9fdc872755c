"""Settings of the server: defaults, then a TOML file, then the environment, then flags; later wins. Read once.

`__main__.py` calls `load` in the main thread; everything else gets the frozen result.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

EngineKind = Literal["embedded", "synthetic"]
Sender = Literal["own", "aiortc"]
EnginePriority = Literal["low", "normal"]
LogLevel = Literal["debug", "info", "warning", "error"]
ENVIRONMENT_PREFIX = "SCENESHIFT_"
# HS256 wants 32 bytes: who holds a client secret can try short tokens on it without asking us.
MIN_TOKEN_CHARACTERS = 32
# Decimal and binary units, as disks and memories are sold and measured.
_UNITS = {"": 1, "k": 10**3, "ki": 2**10, "m": 10**6, "mi": 2**20, "g": 10**9, "gi": 2**30, "t": 10**12, "ti": 2**40}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?i?)b?", re.IGNORECASE)
# RFC 7064 and RFC 7065, as browsers take them.
ICE_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(?::(?P<port>\d{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)
PrivateCandidates = Literal["auto", "allow", "refuse"]
PortRange = tuple[int, int]  # both included
ProgramSize = tuple[int, int, int]  # width, height, frames a second
DEFAULT_PROGRAM: ProgramSize = (832, 480, 24)  # what clients get that ask for no size
MIN_SECRET_CHARACTERS = 8
_PORTS = re.compile(r"(?P<first>\d{1,5})\s*-\s*(?P<last>\d{1,5})")
_PROGRAM = re.compile(r"(\d{1,5})\s*[x×]\s*(\d{1,5})\s*(?:[x×@]|at)\s*(\d{1,3})", re.IGNORECASE)
_PIXELS = re.compile(r"(?P<width>\d+)\s*[x×]\s*(?P<height>\d+)", re.IGNORECASE)

# Settings that take any text.
_FOLDERS = ("lora_folder", "cache_folder", "music_folder", "data_folder", "clips_folder", "recordings_folder")
_TEXTS = ("host", "h264_encoder", "model", "device", "decoder", *_FOLDERS)
_CHOICES: dict[str, tuple[str, ...]] = {
    "engine": get_args(EngineKind),
    "engine_priority": get_args(EnginePriority),
    "log_level": get_args(LogLevel),
    "private_candidates": get_args(PrivateCandidates),
    "sender": get_args(Sender),
}
_TARGET_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


class ConfigError(Exception):
    """A setting that cannot be used: `setting` names it, `source` says where it came from."""

    def __init__(self, setting: str, message: str, source: str) -> None:
        super().__init__(f"{setting} ({source}): {message}")
        self.setting = setting
        self.source = source


@dataclass(frozen=True, slots=True)
class WhipTarget:
    """An ingest that programs may be pushed to. The address may hold a stream key: it is as secret as the token."""

    name: str
    url: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `sceneshift serve`."""

    host: str = "127.0.0.1"
    port: int = 8080
    # If set, every client needs it. `__main__` puts the store's own token here, unless `no_token` is set.
    token: str | None = field(default=None, repr=False)
    no_token: bool = False  # open to every user and program of this machine
    engine: EngineKind = "embedded"
    # A profile's name, a folder, a hub id or PROFILE=FOLDER; None: what fits this machine (`engine.config`).
    model: str | None = None
    size: tuple[int, int] | None = None  # of the model's clips, in pixels; None: the profile's
    frames: int | None = None  # of a clip; None: the profile's
    device: str | None = None  # None: the first accelerator, else the CPU
    gpu_memory: int | None = None  # bytes that the engine may use; None: what the device has free
    decoder: str | None = None  # None: the profile's
    lora_folder: str | None = None
    engine_priority: EnginePriority = "normal"  # beside other programs (`engine.config.NICENESS`)
    no_compile: bool = False
    allow_pickles: bool = False
    # Kept clips, in bytes; 0 turns a store off. The disk store is off by default, because pictures stay there.
    cache_memory: int = 256 * 2**20
    cache_disk: int = 0
    cache_folder: str | None = None  # None: the user's cache folder
    max_sessions: int = 8
    # Controllers that may wait for a stage; more are refused. Beyond 16 the estimated wait is too long to be useful.
    max_queued: int = 16
    # One viewer costs up to 0.02 CPU seconds a second on the ready-packet path: 32 leave the engine its cores.
    max_viewers: int = 32
    # TCP connections in all; more are closed at once. Eight full stages of viewers over WebSocket have 256.
    max_connections: int = 512
    # Of one address, except on loopback and behind proxies. 0: any number, if the network hides the clients' addresses.
    max_connections_per_peer: int = 32
    # Of one address that is told apart: new connections a minute, and engine seconds a day. 0: any number.
    max_connects_per_peer: int = 60
    max_engine_s_per_peer: int = 0
    # Addresses or networks of proxies. We believe their `X-Forwarded-For`, and then nobody else's.
    trusted_proxies: tuple[str, ...] = ()
    # The largest program, by its pixels a second: composing and encoding take CPU time by them, for each rendition.
    max_program: ProgramSize = (1920, 1080, 30)
    # "auto": a hardware encoder if it is present and better (`server.media.video.hardware`), else x264.
    h264_encoder: str = "auto"
    sender: Sender = "own"  # of RTP; aiortc's is the plain twin, without pacing and adaptation
    resume_grace_s: float = 60.0
    # For the store (keys, usage, the audit log). None: the user's own, by the XDG base directory specification.
    data_folder: str | None = None
    # For clips on demand. None: in the data folder (`__main__`); an application without one makes none.
    clips_folder: str | None = None
    clips_live_s: float = 7 * 86_400.0  # how long a clip is kept after its end, with its prompt
    max_clips_size: int = 5 * 10**9  # bytes of the clips of one key; 0: none are made
    max_clips_queued: int = 1000  # of one key
    clips_share: float = 0.0  # of the engine's time, kept for clips beside live stages; else they get what is left
    # None: nothing is recorded. If only the user can reach the server, `__main__` sets the user's own folder.
    recordings_folder: str | None = None
    max_recording_size: int = 8 * 10**9  # bytes of one file, 9 hours at 2 Mbit/s; 0: nothing is recorded
    max_recordings_size: int | None = None  # bytes of all files together; None: 20 GB, or 10 % of a smaller disk
    # Pages of other origins that may use this server, as `https://stage.example`; their host names are accepted, too.
    allowed_origins: tuple[str, ...] = ()
    # The network path of media (`server.media.webrtc.ice`, docs/media.md). We contact only the ICE servers named here.
    ice_servers: tuple[str, ...] = ()  # stun: and turn: addresses, for clients and for us
    turn_secret: str | None = field(default=None, repr=False)  # shared with the TURN server, as coturn's
    public_address: str | None = None  # given to viewers instead of this machine's own, behind 1:1 NAT
    udp_ports: PortRange | None = None  # for media; None: any
    private_candidates: PrivateCandidates = "auto"  # of viewers; auto: refused when a public address is given
    music_folder: str | None = None
    whip_targets: tuple[WhipTarget, ...] = ()
    log_level: LogLevel = "info"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def is_reachable(self) -> bool:
        """Whether others than this machine's user may connect: over the network, or through a proxy or a router.

        An operator who names a public address, or pages of another host, wants others to connect.
        """
        hosts = (urlsplit(origin).hostname or "" for origin in self.allowed_origins)
        return not self.is_loopback or self.public_address is not None or not all(map(is_loopback, hosts))


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
    settings = Settings(**values)
    _check_turn(settings)
    _check_no_token(settings)
    return settings


def _check_turn(settings: Settings) -> None:
    has_turn = any(url.startswith("turn") for url in settings.ice_servers)
    if has_turn and settings.turn_secret is None:
        reason = "TURN servers need the secret that they share with us (coturn: static-auth-secret)"
        raise ConfigError("turn_secret", reason, "missing")


def _check_no_token(settings: Settings) -> None:
    if settings.no_token and settings.token is not None:
        raise ConfigError("no_token", "a token is set, too; leave out one of the two", "set")
    if settings.no_token and settings.is_reachable:
        reason = "others may reach this server (host, public_address or allowed_origins), so it needs a token"
        raise ConfigError("no_token", reason, "set")


def default_data_folder(environment: Mapping[str, str]) -> Path:
    """By the XDG base directory specification."""
    data = environment.get("XDG_DATA_HOME") or Path(environment.get("HOME") or Path.home()) / ".local" / "share"
    return Path(data) / "sceneshift"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sceneshift serve",
        description="Serve stages: prompts in over WebSocket, live video out over WebRTC.",
        epilog="Every flag is also a key of the TOML file (with _ for -) and a variable SCENESHIFT_NAME.",
    )
    parser.add_argument("--config", metavar="FILE", help="a TOML file with any of these settings")
    parser.add_argument("--host", help="address to bind (default 127.0.0.1)")
    parser.add_argument("--port", help="TCP port; 0 takes a free one (default 8080)")
    _add_token_flags(parser)
    add_model_flags(parser)
    parser.add_argument("--cache-memory", metavar="SIZE", help="of clips kept for repeats (default 256MiB; 0: none)")
    parser.add_argument("--cache-disk", metavar="SIZE", help="of clips kept over restarts (default 0: none)")
    parser.add_argument("--cache-folder", metavar="FOLDER", help="for them (default: in the user's cache folder)")
    parser.add_argument("--max-sessions", help="how many stages at once (default 8)")
    parser.add_argument("--max-queued", help="how many controllers may wait for a stage (default 16)")
    parser.add_argument("--max-viewers", help="how many viewers a stage may have, beside its controller's (default 32)")
    parser.add_argument(
        "--max-program", metavar="WxHxRATE", help="pixels a second of a stage, at most as many (default 1920x1080x30)"
    )
    parser.add_argument("--max-connections", help="how many TCP connections, all together (default 512)")
    parser.add_argument(
        "--max-connections-per-peer",
        help="how many of one address; 0, if a network hides the clients' addresses, also allows guesses of the token "
        "without a bound (default 32)",
    )
    parser.add_argument("--max-connects-per-peer", help="new ones of one address a minute (default 60; 0: any)")
    parser.add_argument("--max-engine-s-per-peer", help="engine seconds of one address a day (default 0: any)")
    parser.add_argument("--h264-encoder", help="auto (default: hardware where it wins), libx264, h264_nvenc, ...")
    parser.add_argument("--sender", help="of RTP: own (default), or aiortc, to compare or to fall back on")
    parser.add_argument("--resume-grace-s", help="how long a stage outlives its controller's connection (default 60)")
    _add_data_flags(parser)
    parser.add_argument(
        "--allowed-origins", help="origins of other pages that may connect, with commas between; then a token is needed"
    )
    parser.add_argument(
        "--trusted-proxies", help="addresses or networks of proxies whose X-Forwarded-For counts, with commas between"
    )
    add_ice_flags(parser)
    parser.add_argument("--music-folder", metavar="FOLDER", help="more music that sessions may name")
    parser.add_argument(
        "--whip-targets", metavar="FILE", help="TOML: a table for each ingest to push to, with url and token"
    )
    parser.add_argument("--log-level", help="debug, info (default), warning or error")
    return parser


def add_model_flags(parser: argparse._ActionsContainer, *, size_flag: str = "--size") -> None:
    """The flags that `sceneshift generate` takes, too; there `--size` is the size of the file."""
    parser.add_argument("--engine", help="embedded (default: --model) or synthetic (no model: numbered pictures)")
    parser.add_argument(
        "--model",
        help="a profile, a folder, a hub id or PROFILE=FOLDER (default: fastwan2.2-5b with a GPU, else embedded)",
    )
    parser.add_argument(size_flag, metavar="WxH", help="of the model's clips, in pixels (default: the profile's)")
    parser.add_argument("--frames", help="of a clip, 4n + 1 (default: the profile's)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the first accelerator, else cpu)")
    parser.add_argument("--gpu-memory", metavar="SIZE", help="memory for the engine, as 16GB (default: what is free)")
    parser.add_argument(
        "--decoder", help="full, tiny, a tiny decoder's FILE, or a pruned VAE's FOLDER (default: the profile's)"
    )
    parser.add_argument("--lora-folder", metavar="FOLDER", help="LoRA files that prompts may name")
    parser.add_argument("--engine-priority", help="beside other programs: normal (default) or low (they go first)")
    parser.add_argument("--no-compile", action="store_const", const="true", help="leave the model uncompiled on a GPU")
    parser.add_argument("--allow-pickles", action="store_const", const="true", help="load .bin and .pt files, too")


def _add_token_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token",
        help="the access token (default: one of its own); better given as SCENESHIFT_TOKEN, where `ps` cannot see it",
    )
    parser.add_argument(
        "--no-token",
        action="store_const",
        const="true",
        help="ask nobody for a token: any user or program of this machine may then use the server",
    )


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clips-folder", metavar="FOLDER", help="for clips on demand, /v1/videos (default: in the data folder)"
    )
    parser.add_argument("--clips-live-s", help="how long a clip is kept after its end, in s (default a week)")
    parser.add_argument("--max-clips-size", metavar="SIZE", help="of the clips of one key (default 5GB; 0: no clips)")
    parser.add_argument(
        "--clips-share",
        help="of the engine's time that clips get beside live stages, 0 to 0.5 (default 0: what is left)",
    )
    parser.add_argument("--max-clips-queued", help="how many clips of one key may wait (default 1000)")
    parser.add_argument(
        "--data-folder", metavar="FOLDER", help="for keys, usage and the audit log (default: the user's data folder)"
    )
    parser.add_argument(
        "--recordings-folder",
        metavar="FOLDER",
        help="for recordings (default: on a loopback address the user's data folder, else nothing is recorded)",
    )
    parser.add_argument("--max-recording-size", metavar="SIZE", help="of one recording (default 8GB; 0: none)")
    parser.add_argument(
        "--max-recordings-size",
        metavar="SIZE",
        help="of all together (default 20GB, or 10 %% of a smaller disk; 0: none)",
    )


def add_ice_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that the doctor takes, too."""
    parser.add_argument(
        "--ice-servers",
        metavar="URLS",
        help="stun:HOST:PORT and turn:HOST:PORT?transport=tcp, with commas (default: none)",
    )
    parser.add_argument("--turn-secret", help="shared with the TURN servers; better given as SCENESHIFT_TURN_SECRET")
    parser.add_argument(
        "--public-address", metavar="IP", help="what viewers are told, behind 1:1 NAT; then a token is needed"
    )
    parser.add_argument("--udp-ports", metavar="FIRST-LAST", help="for media, as 50000-50100 (default: any)")
    parser.add_argument(
        "--private-candidates", help="of viewers: allow, refuse or auto (refuse with --public-address; the default)"
    )


def _from_file(path: Path) -> dict[str, Any]:
    return {name: _parsed(name, value, str(path)) for name, value in _toml("config", path).items()}


def _toml(setting: str, path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(setting, f"cannot be read: {error.strerror}", str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(setting, f"is not TOML: {error}", str(path)) from None


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
        case "max_sessions" | "max_viewers":
            return _integer(name, value, source, low=1, high=1000)
        case "max_queued" | "max_connections_per_peer":
            return _integer(name, value, source, low=0, high=1000)
        case "max_clips_queued":
            return _integer(name, value, source, low=1, high=1_000_000)
        case "max_connects_per_peer" | "max_engine_s_per_peer":
            return _integer(name, value, source, low=0, high=1_000_000)
        case "max_connections":
            return _integer(name, value, source, low=16, high=50_000)
        case "frames":
            return _integer(name, value, source, low=1, high=1001)
        case "size":
            return _pixels(name, value, source)
        case "max_program":
            return _program(value, source)
        case "gpu_memory":
            return _bytes(name, value, source, low=2**20)
        case "cache_memory" | "cache_disk" | "max_recording_size" | "max_recordings_size" | "max_clips_size":
            return _bytes(name, value, source, low=0)
        case "no_compile" | "allow_pickles" | "no_token":
            return _boolean(name, value, source)
        case "clips_share":
            return _seconds(name, value, source, high=0.5)
        case "clips_live_s":
            return _seconds(name, value, source, high=10 * 366 * 86_400.0)
        case "resume_grace_s":
            return _seconds(name, value, source, high=3600.0)
        case _ if name in _CHOICES:
            return _one_of(name, value, source, _CHOICES[name])
        case "ice_servers":
            return _ice_servers(value, source)
        case "turn_secret":
            return _secret(value, source)
        case "public_address":
            return _address(name, value, source)
        case "udp_ports":
            return _ports(name, value, source)
        case "token":
            return _token(value, source)
        case "allowed_origins":
            return _origins(value, source)
        case "trusted_proxies":
            return _networks(value, source)
        case "whip_targets":
            return _whip_targets(value, source)
        case _ if name in _TEXTS:
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


def _bytes(name: str, value: object, source: str, *, low: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = _UNITS.get(found["unit"].lower()) if found else None
    if found is None or unit is None:
        raise ConfigError(name, f"expected a size like 16GB or 12GiB, got {value!r}", source)
    num_bytes = int(float(found["number"]) * unit)
    if num_bytes < low:
        raise ConfigError(name, f"expected {low} bytes or more, got {value!r}", source)
    return num_bytes


def _pixels(name: str, value: object, source: str) -> tuple[int, int]:
    found = _PIXELS.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(name, f"expected a size like 832x480, got {value!r}", source)
    return int(found["width"]), int(found["height"])


def _program(value: object, source: str) -> ProgramSize:
    found = _PROGRAM.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ConfigError("max_program", f"expected width, height and rate, as 1920x1080x30, got {value!r}", source)
    width, height, rate = (int(number) for number in found.groups())
    if width * height * rate < math.prod(DEFAULT_PROGRAM):
        default = "x".join(map(str, DEFAULT_PROGRAM))
        raise ConfigError("max_program", f"expected {default} or more, which clients ask for, got {value!r}", source)
    return width, height, rate


def _boolean(name: str, value: object, source: str) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("true", "false", "1", "0"):
        raise ConfigError(name, f"expected true or false, got {value!r}", source)
    return value in ("true", "1")


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


def _secret(value: object, source: str) -> str:
    if not isinstance(value, str) or len(value) < MIN_SECRET_CHARACTERS:
        raise ConfigError("turn_secret", f"expected {MIN_SECRET_CHARACTERS} or more characters", source)
    return value


def _ice_servers(value: object, source: str) -> tuple[str, ...]:
    urls = value.split(",") if isinstance(value, str) else value
    if not isinstance(urls, list):
        raise ConfigError("ice_servers", f"expected a list of addresses, got {value!r}", source)
    return tuple(_ice_server(url, source) for url in urls)


def _ice_server(value: object, source: str) -> str:
    url = value.strip() if isinstance(value, str) else ""
    found = ICE_URL.fullmatch(url)
    is_stun = found is not None and found["scheme"].startswith("stun")
    if found is None or int(found["port"] or 1) > 65535 or (is_stun and found["transport"]):
        expected = "stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp|tcp] or turns:HOST[:PORT]"
        raise ConfigError("ice_servers", f"expected {expected}, got {value!r}", source)
    return url


def _address(name: str, value: object, source: str) -> str:
    try:
        address = ipaddress.ip_address(value.strip() if isinstance(value, str) else "")
    except ValueError:
        raise ConfigError(name, f"expected an IP address, got {value!r}", source) from None
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise ConfigError(name, f"expected an address that viewers can reach, got {value!r}", source)
    return str(address)


def _ports(name: str, value: object, source: str) -> PortRange:
    found = _PORTS.fullmatch(value.strip()) if isinstance(value, str) else None
    first, last = (int(found["first"]), int(found["last"])) if found else (0, 0)
    if not 1024 <= first <= last <= 65535:
        raise ConfigError(name, f"expected a range within 1024-65535, as 50000-50100, got {value!r}", source)
    return first, last


def _origins(value: object, source: str) -> tuple[str, ...]:
    origins = value.split(",") if isinstance(value, str) else value
    if not isinstance(origins, list):
        raise ConfigError("allowed_origins", f"expected a list of origins, got {value!r}", source)
    return tuple(_origin(origin, source) for origin in origins)


def _networks(value: object, source: str) -> tuple[str, ...]:
    networks = value.split(",") if isinstance(value, str) else value
    if not isinstance(networks, list):
        raise ConfigError("trusted_proxies", f"expected a list of addresses, got {value!r}", source)
    try:
        return tuple(str(ipaddress.ip_network(str(one).strip())) for one in networks)
    except ValueError as error:
        raise ConfigError(
            "trusted_proxies", f"expected addresses or networks like 10.0.0.0/8: {error}", source
        ) from None


def _origin(value: object, source: str) -> str:
    origin = value.strip().rstrip("/").lower() if isinstance(value, str) else ""
    scheme, separator, host = origin.partition("://")
    if scheme not in ("http", "https") or not separator or not host or "/" in host:
        raise ConfigError("allowed_origins", f"expected origins like https://stage.example, got {value!r}", source)
    return origin


def _whip_targets(value: object, source: str) -> tuple[WhipTarget, ...]:
    """`value` is a dict of tables by name, from the settings file, or the path of a file of such tables."""
    if isinstance(value, str):
        source, value = value, _toml("whip_targets", Path(value))
    if not isinstance(value, dict):
        raise ConfigError("whip_targets", "expected a table for each target, or the name of a file of them", source)
    return tuple(_whip_target(name, table, source) for name, table in value.items())


def _whip_target(name: str, table: object, source: str) -> WhipTarget:
    """No message repeats an address or a token: both are secrets."""
    if not _TARGET_NAME.fullmatch(name):
        reason = f"expected a name of 1 to 64 letters, digits, dots, _ or -, got {name!r}"
        raise ConfigError("whip_targets", reason, source)
    if not isinstance(table, dict) or not table.keys() <= {"url", "token"}:
        raise ConfigError("whip_targets", f"`{name}`: expected a table with url and, if needed, token", source)
    url, token = table.get("url"), table.get("token")
    if not isinstance(url, str) or not _is_http(url):
        raise ConfigError("whip_targets", f"`{name}`: expected a url like https://ingest.example/whip", source)
    if token is not None and (not isinstance(token, str) or not token.isascii() or not token.isprintable()):
        raise ConfigError("whip_targets", f"`{name}`: expected a token of ASCII characters", source)
    return WhipTarget(name, url, token)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_port = parts.port is None or parts.port > 0  # raises ValueError for an invalid port
    except ValueError:
        return False
    return is_port and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
