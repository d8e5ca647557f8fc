"""What Prometheus and Grafana are told to show is what the service measures."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from service.access.keys import read_keys
from service.http.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def expressions(file):
    if file.suffix == ".json":
        return [t["expr"] for panel in json.loads(file.read_text())["panels"] for t in panel["targets"]]
    return [rule["expr"] for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("file", [DEPLOY / "grafana/dashboards/svdraw.json", DEPLOY / "alerts.yml"])
def test_only_metrics_that_exist_are_shown(file):
    metrics = Metrics()
    known = set()
    for family in metrics.registry.collect():
        suffixes = {"histogram": ["_bucket", "_sum", "_count"], "counter": ["_total"], "gauge": [""]}[family.type]
        known |= {family.name + suffix for suffix in suffixes}
    used = set(re.findall(r"svdraw_\w+", " ".join(expressions(file))))
    assert used
    assert used <= known


def alerts():
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_every_alert_is_seen_to_be_raised_and_not_to_be():
    cases = yaml.safe_load((DEPLOY / "alerts_test.yml").read_text())["tests"]
    seen = {(test["alertname"], bool(test["exp_alerts"])) for case in cases for test in case["alert_rule_test"]}
    assert seen == {(name, raised) for name in alerts() for raised in (True, False)}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, which Debian's package prometheus has")
@pytest.mark.parametrize("check", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_prometheus_takes_the_alerts(check):
    result = subprocess.run(["promtool", *check], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_has_not_happened_yet_is_counted_as_zero():
    """Prometheus sees no increase where a counter begins with its first failure."""
    text = generate_latest(Metrics().registry).decode()
    for result in ("failed", "switched"):
        assert f'svdraw_gallery_reloads_total{{result="{result}"}} 0.0' in text
    for result in ("failed", "killed", "succeeded"):
        assert f'svdraw_gallery_base_builds_total{{result="{result}"}} 0.0' in text


def test_documented_metrics_exist():
    documented = set(re.findall(r"`(svdraw_\w+)`", (ROOT / "docs" / "deployment.md").read_text()))
    known = {family.name + ("_total" if family.type == "counter" else "") for family in Metrics().registry.collect()}
    assert documented == known


def test_every_alert_says_what_to_do():
    page = (ROOT / "docs" / "deployment.md").read_text()
    rules = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        row = rf"^\| `{rule['alert']}` \| {rule['labels']['severity']} \| .{{40,}} \|$"
        assert re.search(row, page, flags=re.M), rule["alert"]
    documented = re.findall(r"^\| `(Svdraw\w+)` \|", page, flags=re.M)
    assert documented == [rule["alert"] for rule in rules]


def test_prometheus_sends_the_key_that_compose_gives_it():
    [job] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    name = Path(job["authorization"]["credentials_file"]).relative_to("/run/secrets")
    assert compose["services"]["prometheus"]["secrets"] == [str(name)]
    assert (DEPLOY / "metrics.key.example").read_bytes() == b""  # which Prometheus takes for no key


def test_what_grafana_is_given_cannot_be_changed_in_it():
    provisioning = DEPLOY / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "svdraw.yml").read_text())["providers"]
    assert source["editable"] is False
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)
    assert json.loads((DEPLOY / "grafana" / "dashboards" / "svdraw.json").read_text())["editable"] is False


def test_the_compose_file_mounts_what_there_is():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./deploy")]
    assert len(files) == 5
    assert all((ROOT / file).exists() for file in files)
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith((".", "$"))}
    assert named == set(compose["volumes"])


def test_the_example_of_keys_is_a_file_of_keys():
    assert read_keys(DEPLOY / "keys.example") == ()
