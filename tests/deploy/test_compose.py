"""Every container is confined, and none has a password that everyone knows."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OWN = {"service", "trainer", "indexer"}
JOBS = {"trainer", "indexer"}


def default(value):
    """What Docker Compose makes of a value where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


@pytest.fixture(params=sorted(SERVICES))
def service(request):
    return SERVICES[request.param] | {"name": request.param}


def test_containers_are_confined(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if service["name"] == "proxy" else [])
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "user"} & set(service)
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


def test_what_is_writable_has_a_limit_or_is_a_volume(service):
    assert all(re.search(r":size=\d+m\b.*nosuid.*nodev", each) for each in service["tmpfs"])
    for volume in service["volumes"]:
        assert volume.endswith(":ro") or volume.split(":")[0] in COMPOSE["volumes"], volume


def test_resources_are_limited(service):
    limits = service["deploy"]["resources"]["limits"]
    assert 0 < float(default(limits["cpus"])) <= 2
    assert re.fullmatch(r"\d+g", default(limits["memory"]))
    assert 0 < limits["pids"] <= 512
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_health_is_checked(service):
    if service["name"] in JOBS:
        assert service["healthcheck"] == {"disable": True}
    elif service["name"] in OWN:
        assert re.search(r"^HEALTHCHECK ", (ROOT / "Dockerfile").read_text(), flags=re.M)
        assert "healthcheck" not in service
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "127.0.0.1" in service["healthcheck"]["test"][-1]
        assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])


def test_only_the_proxy_is_open_to_the_network(service):
    for port in service.get("ports", []):
        open_to_all = service["name"] == "proxy"
        assert default(port).startswith("127.0.0.1:") != open_to_all, port


def test_images_can_be_pinned(service):
    if service["name"] in OWN:
        assert service["build"]["args"]["PYTHON_IMAGE"].startswith("${PYTHON_IMAGE:-")
    else:
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w/]+:[\w.-]*\d[\w.-]*\}", service["image"])


def test_grafana_has_no_password_that_everyone_knows():
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environment
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    file = default(COMPOSE["secrets"]["grafana"]["file"]).removeprefix("./")
    assert file in (ROOT / ".gitignore").read_text().splitlines()  # whoever runs Grafana makes it
    assert "admin" not in (ROOT / ".env.example").read_text().replace("for the user admin", "")


def test_grafana_tells_nobody_and_fetches_nothing():
    environment = SERVICES["grafana"]["environment"]
    for name in ("ANALYTICS_REPORTING", "ANALYTICS_CHECK_FOR_UPDATES", "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES"):
        assert environment[f"GF_{name}" + ("_ENABLED" if name.endswith("REPORTING") else "")] == "false"
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert environment["GF_NEWS_NEWS_FEED_ENABLED"] == environment["GF_SNAPSHOTS_EXTERNAL_ENABLED"] == "false"


def test_secrets_are_files_and_each_is_used():
    used = {secret for each in SERVICES.values() for secret in each.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert all(list(secret) == ["file"] for secret in COMPOSE["secrets"].values())
    for name, value in ((n, v) for each in SERVICES.values() for n, v in each.get("environment", {}).items()):
        assert not re.search(r"PASSWORD|TOKEN|SECRET", name) or name.endswith("__FILE"), (name, value)


def test_the_example_shows_the_defaults():
    example = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), flags=re.M))
    for file in ("docker-compose.yml", "docker-compose.gpu.yml"):
        for name, value in re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / file).read_text()):
            assert name == "TAG" or example[name] == value
    python = re.search(r"^ARG PYTHON_IMAGE=(.*)", (ROOT / "Dockerfile").read_text(), flags=re.M)[1]
    assert example["PYTHON_IMAGE"] == python
