"""The OPC UA certificate of a gateway: made once, shown again, and usable by name in options."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge import opcua_verbs
from edge.first_revision import stored
from edge.twin import Twin
from edge.vault import Vault
from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.trust import load_identity
from shared.clock import SystemClock

pytestmark = pytest.mark.integration

YAML = "central: {link: wss://c:1/link, enrol: https://c:2}\ngateway: {data: data}\n"


def certificate(config: Path, *more: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(opcua_verbs.app, ["certificate", "--config", str(config), *more])
    return done.exit_code, done.stdout, done.stderr


async def test_one_certificate_is_made_kept_sealed_and_used_by_its_name(tmp_path: Path) -> None:
    config, data = tmp_path / "gateway.yaml", tmp_path / "data"
    config.write_text(YAML)
    code, said, complained = certificate(config)
    assert (code, said) == (1, "")
    assert "start the gateway once" in complained
    assert "Traceback" not in complained

    data.mkdir(exist_ok=True)
    await (await Twin.opened(data, None, SystemClock(), Vault.find(data))).close()
    code, first, complained = certificate(config)
    assert (code, "made now" in complained) == (0, True)
    assert "identity: {secret: opcua}" in complained
    code, again, complained = certificate(config)
    assert (code, again, "kept here already" in complained) == (0, first, True)
    assert "PRIVATE KEY" not in first + complained
    code, other, _ = certificate(config, "--renew")
    assert code == 0
    assert other != first

    found = stored(data, Vault.find(data))
    assert found is not None
    document = {
        "devices": [
            {
                "name": "plant",
                "driver": "opcua",
                "interval_s": 10,
                "options": {
                    "url": "opc.tcp://plant",
                    "security": "Basic256Sha256",
                    "identity": {"secret": "opcua"},
                },
                "points": [{"key": "plant/temp", "source": {"node": "ns=2;s=temp"}}],
            }
        ]
    }
    with found[0].store:
        devices, problems = found[0].devices_in(document)
    assert problems == []
    options = devices[0].options.model_copy()
    OpcuaDriver(options)  # type: ignore[arg-type] # its own options
    secret = options.identity.get_secret_value()  # type: ignore[attr-defined] # OPC UA's
    assert other in secret
    uri = load_identity(secret, "identity").application_uri
    assert uri is not None
    assert uri.endswith(":spine:gateway")
