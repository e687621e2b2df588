"""Settings: each is documented and typed, and a wrong one is named."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.settings import Settings

NAMES = [item.name for item in fields(Settings)]
NAMES_OF_0_1_0 = """
    api_url aws_account_id aws_default_region aws_endpoint_url aws_region cassia_key cassia_model
    cassia_timeout_s cassia_url cluster_env data_dir debug_step egress engine_url experiment_id grace_s
    health_port host hostname idle_timeout_s ignore_timeout journal_after_s journal_key k8s_env labels_file
    like_original load_max_gb load_memory_gb load_timeout_s log_level long_in_flight long_timeout_s long_workers
    max_attempts metrics port redis_certificates redis_url reload_poll_s rescue sandbox_id sctype_table
    short_in_flight short_timeout_s short_workers shutdown_file store_dir store_max_gb store_patience_s
    task_memory_gb threads traces_url visibility_s work_queue_hash
"""


def refused(name: str, text: str) -> str:
    with pytest.raises(WorkerError) as caught:
        Settings.from_environment({name: text})
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert name in caught.value.message
    assert repr(text) in caught.value.message
    return caught.value.message


def test_a_deployment_that_was_set_up_for_an_earlier_version_keeps_its_settings() -> None:
    assert set(NAMES_OF_0_1_0.split()) <= set(NAMES)


@pytest.mark.parametrize("item", fields(Settings), ids=lambda item: item.name)
def test_each_setting_says_what_it_is_for(item) -> None:
    assert len(item.metadata["help"]) > 10


@pytest.mark.parametrize("name", NAMES)
def test_each_default_has_the_declared_type(name: str) -> None:
    declared = Settings.__annotations__[name]
    assert isinstance(getattr(Settings(), name), declared)


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_is_in_the_documentation(name: str, root: Path) -> None:
    documents = (root / "README.md").read_text() + (root / "docs" / "settings.md").read_text()
    assert f"`{name.upper()}`" in documents


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_the_environment_is_read() -> None:
    settings = Settings.from_environment(
        {"PORT": " 4123 ", "STORE_MAX_GB": "1.5", "LIKE_ORIGINAL": "True", "DATA_DIR": "~/x", "EXPERIMENT_ID": "e1"}
    )
    assert (settings.port, settings.store_max_gb, settings.like_original) == (4123, 1.5, True)
    assert settings.data_dir == Path.home() / "x"
    assert settings.experiment_id == "e1"


def test_an_option_wins_over_the_environment_and_none_is_no_option() -> None:
    environment = {"PORT": "4123"}
    assert Settings.from_environment(environment, port=5000).port == 5000
    assert Settings.from_environment(environment, port=None).port == 4123


@pytest.mark.parametrize("text", ["4000x", "", "4e3", "40 00"])
def test_a_port_that_is_no_number_is_refused_by_name(text: str) -> None:
    assert "a whole number" in refused("PORT", text)


@pytest.mark.parametrize("text", ["65536", "99999999"])
def test_a_port_that_does_not_exist_is_refused(text: str) -> None:
    assert "65535" in refused("PORT", text)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "-inf"])
def test_a_size_must_be_an_ordinary_number(text: str) -> None:
    refused("TASK_MEMORY_GB", text)


@pytest.mark.parametrize("name", ["THREADS", "SHORT_WORKERS", "LONG_WORKERS"])
def test_there_is_at_least_one_of_whatever_computes(name: str) -> None:
    assert "at least 1" in refused(name, "0")


def test_a_switch_knows_yes_and_no_and_nothing_else() -> None:
    for text in ("1", "yes", "ON", "true"):
        assert Settings.from_environment({"LIKE_ORIGINAL": text}).like_original is True
    for text in ("0", "no", "Off", "false", ""):
        assert Settings.from_environment({"LIKE_ORIGINAL": text}).like_original is False
    assert "true or false" in refused("LIKE_ORIGINAL", "perhaps")


def test_an_unknown_log_level_is_refused_with_the_known_ones() -> None:
    assert "DEBUG, INFO, WARNING or ERROR" in refused("LOG_LEVEL", "LOUD")
    assert Settings.from_environment({"LOG_LEVEL": "debug"}).log_level.upper() == "DEBUG"


@given(st.sampled_from([name.upper() for name in NAMES]), st.text(max_size=20).filter(lambda text: "\0" not in text))
def test_any_text_is_understood_or_refused_by_name(name: str, text: str) -> None:
    try:
        settings = Settings.from_environment({name: text})
    except WorkerError as error:
        assert name in error.message  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(getattr(settings, name.lower()), Settings.__annotations__[name.lower()])


@pytest.mark.parametrize(
    "name",
    ["x86_64-conda-linux-gnu", "x86_64-conda_cos6-linux-gnu", "aarch64-conda-linux-gnu", "x86_64-apple-darwin13.4.0",
     "arm64-apple-darwin20.0.0", "powerpc64le-conda-linux-gnu", "x86_64-w64-mingw32", "i686-pc-linux-gnu"],
)  # fmt: skip
def test_what_compilers_mean_by_host_is_ignored_in_a_sentence(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert Settings.from_environment({"HOST": name}).host == "127.0.0.1"
    assert name in caplog.text
    assert "ignored" in caplog.text


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "localhost", "box", "my-lab-linux", "box.lab.example", "192.0.2.1"])
def test_an_address_is_listened_on(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert Settings.from_environment({"HOST": name}).host == name
    assert caplog.text == ""
