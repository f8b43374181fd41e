"""Options of the MQTT driver, and that its README names them all."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from ruamel.yaml import YAML

import protocols.mqtt
from protocols.mqtt import driver_type
from protocols.mqtt.options import MAX_IN_FLIGHT, MqttDevice, MqttPoint

README = Path(protocols.mqtt.__file__).with_name("README.md").read_text()


@pytest.mark.parametrize("name", [*MqttDevice.model_fields, *MqttPoint.model_fields])
def test_the_readme_names_every_option(name: str) -> None:
    assert f"`{name}`" in README


def test_far_more_tokens_than_the_largest_window_are_kept() -> None:
    assert driver_type().tokens_kept == 20 * MAX_IN_FLIGHT
    assert f"last {20 * MAX_IN_FLIGHT:,} committed" in README
    with pytest.raises(ValidationError):
        MqttDevice(host="b", client_id="c", max_in_flight=MAX_IN_FLIGHT + 1)


def test_a_password_is_never_shown() -> None:
    device = MqttDevice(host="b", client_id="c", username="u", password=SecretStr("sesame"))
    assert "sesame" not in repr(device) + str(device) + device.model_dump_json()


@pytest.mark.parametrize("topic", ["a/+", "#", "a/#", "a\0b"])
def test_wildcards_are_refused_with_a_reason(topic: str) -> None:
    with pytest.raises(ValidationError, match="must name one topic"):
        MqttPoint(topic=topic)


def test_a_time_needs_a_path_beside_it() -> None:
    with pytest.raises(ValidationError, match="time_path needs a path"):
        MqttPoint(topic="a", time_path="t")
    assert MqttPoint(topic="a", path="v", time_path="t").time_unit == "ms"


def test_the_example_of_the_readme_is_good() -> None:
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    (section,) = YAML(typ="safe").load(found[1])
    device = MqttDevice.model_validate(section["options"])
    assert device.port == 8883
    sources = [MqttPoint.model_validate(one["source"]) for one in section["points"]]
    assert [one.write is not None for one in sources] == [False, False, True]
