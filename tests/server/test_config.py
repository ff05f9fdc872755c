"""Settings: later sources win, and an error names the setting and its source."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from engine.config import NICENESS, EngineSettings
from server.config import ConfigError, EnginePriority, Settings, default_data_folder, is_loopback, load

TOKEN = "0123456789abcdef0123456789abcdef"


def test_defaults_are_private() -> None:
    settings = load([], {})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.is_loopback, settings.token) == ("127.0.0.1", 8080, True, None)


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sceneshift.toml"
    file.write_text('port = 1111\nmax_sessions = 2\nhost = "::1"\nallowed_origins = ["https://Stage.example/"]\n')
    environment = {"SCENESHIFT_PORT": "2222", "SCENESHIFT_MAX_SESSIONS": "3", "SCENESHIFT_UNRELATED": "x"}
    settings = load(["--config", str(file), "--port", "3333"], environment)
    assert (settings.port, settings.max_sessions, settings.host) == (3333, 3, "::1")
    assert settings.allowed_origins == ("https://stage.example",)


def test_recordings_lie_in_the_users_data_folder() -> None:
    assert default_data_folder({"HOME": "/home/ada"}) == Path("/home/ada/.local/share/sceneshift")
    assert default_data_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/sceneshift")
    assert load(["--max-recording-size", "2GB"], {}).max_recording_size == 2 * 10**9
    assert load(["--max-recordings-size", "2GB"], {}).max_recordings_size == 2 * 10**9


def test_the_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "sceneshift.toml"
    file.write_text("port = 1111\n")
    assert load([], {"SCENESHIFT_CONFIG": str(file)}).port == 1111


@pytest.mark.parametrize(
    ("arguments", "environment", "setting", "source"),
    [
        (["--port", "http"], {}, "port", "--port"),
        (["--port", "70000"], {}, "port", "--port"),
        (["--max-sessions", "0"], {}, "max_sessions", "--max-sessions"),
        (["--no-token", "--token", TOKEN], {}, "no_token", "set"),
        (["--no-token", "--host", "0.0.0.0"], {}, "no_token", "set"),
        (["--allowed-origins", "https://stage.example"], {"SCENESHIFT_NO_TOKEN": "true"}, "no_token", "set"),
        ([], {"SCENESHIFT_NO_TOKEN": "maybe"}, "no_token", "SCENESHIFT_NO_TOKEN"),
        (["--max-connections", "0"], {}, "max_connections", "--max-connections"),
        (["--max-connections-per-peer", "-1"], {}, "max_connections_per_peer", "--max-connections-per-peer"),
        (["--engine", "magic"], {}, "engine", "--engine"),
        (["--resume-grace-s", "nan"], {}, "resume_grace_s", "--resume-grace-s"),
        (["--resume-grace-s", "soon"], {}, "resume_grace_s", "--resume-grace-s"),
        (["--ice-servers", "stun.example"], {}, "ice_servers", "--ice-servers"),
        (["--ice-servers", "stun:a:99999"], {}, "ice_servers", "--ice-servers"),
        (["--ice-servers", "stun:a?transport=tcp"], {}, "ice_servers", "--ice-servers"),
        (["--ice-servers", "turn:turn.example"], {}, "turn_secret", "missing"),
        (["--public-address", "stage.example"], {}, "public_address", "--public-address"),
        (["--public-address", "0.0.0.0"], {}, "public_address", "--public-address"),
        (["--udp-ports", "50000"], {}, "udp_ports", "--udp-ports"),
        (["--udp-ports", "50100-50000"], {}, "udp_ports", "--udp-ports"),
        (["--udp-ports", "80-90"], {}, "udp_ports", "--udp-ports"),
        (["--private-candidates", "some"], {}, "private_candidates", "--private-candidates"),
        ([], {"SCENESHIFT_TURN_SECRET": "short"}, "turn_secret", "SCENESHIFT_TURN_SECRET"),
        (["--allowed-origins", "stage.example"], {}, "allowed_origins", "--allowed-origins"),
        (["--host", " "], {}, "host", "--host"),
        (["--gpu-memory", "lots"], {}, "gpu_memory", "--gpu-memory"),
        (["--gpu-memory", "16XB"], {}, "gpu_memory", "--gpu-memory"),
        (["--gpu-memory", "0"], {}, "gpu_memory", "--gpu-memory"),
        (["--cache-disk=-1GB"], {}, "cache_disk", "--cache-disk"),
        (["--max-recording-size", "much"], {}, "max_recording_size", "--max-recording-size"),
        (["--recordings-folder", ""], {}, "recordings_folder", "--recordings-folder"),
        (["--size", "832"], {}, "size", "--size"),
        (["--max-program", "1920x1080"], {}, "max_program", "--max-program"),
        (["--max-program", "640x360x24"], {}, "max_program", "--max-program"),
        ([], {"SCENESHIFT_NO_COMPILE": "perhaps"}, "no_compile", "SCENESHIFT_NO_COMPILE"),
        ([], {"SCENESHIFT_LOG_LEVEL": "loud"}, "log_level", "SCENESHIFT_LOG_LEVEL"),
        ([], {"SCENESHIFT_TOKEN": "short"}, "token", "SCENESHIFT_TOKEN"),
    ],
)
def test_a_wrong_setting_is_named(arguments: list, environment: dict, setting: str, source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(arguments, environment)
    assert (caught.value.setting, caught.value.source) == (setting, source)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("prot = 1", "prot"),
        ("port = true", "port"),
        ("port = 1.5", "port"),
        ("port =", "config"),
        ("token = 5", "token"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, setting: str) -> None:
    file = tmp_path / "sceneshift.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(["--config", str(file)], {})
    assert (caught.value.setting, caught.value.source) == (setting, str(file))


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("0", 0),
        ("1000", 1000),
        ("16GB", 16 * 10**9),
        ("16 gb", 16 * 10**9),
        ("12GiB", 12 * 2**30),
        ("1.5g", 1_500_000_000),
        ("512MiB", 512 * 2**20),
    ],
)
def test_sizes_have_the_units_that_people_write(text: str, num_bytes: int) -> None:
    assert load(["--cache-memory", text], {}).cache_memory == num_bytes


@pytest.mark.parametrize("text", ["1920x1080x60", "1920 x 1080 x 60", "1920x1080@60", "1920×1080 at 60"])
def test_the_largest_program_is_a_size_and_a_rate(text: str) -> None:
    assert load(["--max-program", text], {}).max_program == (1920, 1080, 60)
    assert load([], {}).max_program == (1920, 1080, 30)


def test_how_the_model_is_loaded_comes_from_flags_environment_and_file(tmp_path: Path) -> None:
    file = tmp_path / "sceneshift.toml"
    file.write_text('gpu_memory = "16GB"\nno_compile = true\nsize = "704x416"\ncache_disk = 1000\n')
    environment = {"SCENESHIFT_LORA_FOLDER": "/loras", "SCENESHIFT_ALLOW_PICKLES": "true"}
    settings = load(["--config", str(file), "--decoder", "tiny", "--device", "cuda:1", "--frames", "49"], environment)
    assert (settings.gpu_memory, settings.no_compile, settings.size) == (16 * 10**9, True, (704, 416))
    assert (settings.lora_folder, settings.allow_pickles, settings.cache_disk) == ("/loras", True, 1000)
    assert (settings.decoder, settings.device, settings.frames) == ("tiny", "cuda:1", 49)
    assert load(["--allow-pickles"], {}).allow_pickles and load(["--no-compile"], {}).no_compile


def test_the_engine_s_priority_is_a_word() -> None:
    assert load([], {}).engine_priority == "normal"
    assert load(["--engine-priority", "low"], {}).engine_priority == "low"
    assert load([], {"SCENESHIFT_ENGINE_PRIORITY": "low"}).engine_priority == "low"
    with pytest.raises(ConfigError, match="expected one of low, normal, got 'most'"):
        load(["--engine-priority", "most"], {})


def test_the_priorities_are_those_of_the_engine() -> None:
    assert set(NICENESS) == set(get_args(EnginePriority))
    assert NICENESS["low"] > NICENESS["normal"] == EngineSettings().niceness


def test_ice_settings_come_from_flags_environment_and_file(tmp_path: Path) -> None:
    file = tmp_path / "sceneshift.toml"
    file.write_text('udp_ports = "50000-50100"\nice_servers = ["stun:a", "turns:[2001:db8::1]:443"]\n')
    environment = {"SCENESHIFT_TURN_SECRET": "north-wind", "SCENESHIFT_PUBLIC_ADDRESS": "203.0.113.7"}
    settings = load(["--config", str(file), "--private-candidates", "allow"], environment)
    assert settings.ice_servers == ("stun:a", "turns:[2001:db8::1]:443")
    assert (settings.udp_ports, settings.public_address) == ((50000, 50100), "203.0.113.7")
    assert (settings.turn_secret, settings.private_candidates) == ("north-wind", "allow")
    assert "north-wind" not in repr(settings)
    assert load(["--ice-servers", "stun:a:1, turn:b?transport=tcp"], environment).ice_servers == (
        "stun:a:1",
        "turn:b?transport=tcp",
    )


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(["--config", "/nowhere/sceneshift.toml"], {})


def test_the_token_is_in_no_message() -> None:
    with pytest.raises(ConfigError) as caught:
        load([], {"SCENESHIFT_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert TOKEN not in repr(load([], {"SCENESHIFT_TOKEN": TOKEN}))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.evil.example", False),
        ("stage.example", False),
    ],
)
def test_only_local_names_and_addresses_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_trusted_proxies_are_addresses_or_networks() -> None:
    settings = load(["--trusted-proxies", "127.0.0.1, 10.0.0.0/8"], {})
    assert settings.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8")
    with pytest.raises(ConfigError, match=r"trusted_proxies .--trusted-proxies.*10\.0\.0\.1/8"):
        load(["--trusted-proxies", "10.0.0.1/8"], {})
