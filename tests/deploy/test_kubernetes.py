"""The manifests for Kubernetes are valid, confine every pod, and agree with the image, the service and the page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from service.app import create_app
from service.http.metrics import Metrics
from service.program import SVDRAW
from service.settings import ServiceSettings

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OVERLAYS = sorted(file.parent.name for file in FOLDER.glob("*/kustomization.yaml"))
VERSIONS = ("1.33", "1.37")
NAME = {"app.kubernetes.io/name": "svdraw"}

kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl with kustomize 5")


def manifests():
    """What is applied, by kind and name."""
    files = [file for file in FOLDER.glob("*/*.yaml") if file.name not in ("kustomization.yaml", "adapter.yaml")]
    found = [document for file in sorted(files) for document in yaml.safe_load_all(file.read_text())]
    return {f"{document['kind']} {document['metadata']['name']}": document for document in found}


MANIFESTS = manifests()
KUSTOMIZATIONS = {name: yaml.safe_load((FOLDER / name / "kustomization.yaml").read_text()) for name in OVERLAYS}
PODS_OF = ("Deployment svdraw", "Job svdraw-index")
DEPLOYMENT, JOB = MANIFESTS["Deployment svdraw"], MANIFESTS["Job svdraw-index"]
PODS = {name: manifest["spec"]["template"] for name, manifest in MANIFESTS.items() if name in PODS_OF}
RAY = MANIFESTS["RayCluster svdraw-ray"]["spec"]
GROUPS = [RAY["headGroupSpec"], *RAY["workerGroupSpecs"]]
RAY_PODS = {pod["spec"]["containers"][0]["name"]: pod for pod in (group["template"] for group in GROUPS)}
FIELDS = {  # of a RayCluster, those that are used here; its whole schema is in no package
    "spec": {"rayVersion", "headGroupSpec", "workerGroupSpecs"},
    "head": {"rayStartParams", "template"},
    "worker": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}


@pytest.fixture(params=sorted(PODS))
def pod(request):
    return PODS[request.param]


@pytest.fixture
def container(pod):
    [container] = pod["spec"]["containers"]
    return container


every_pod = pytest.mark.parametrize("pod", [*PODS.values(), *RAY_PODS.values()], ids=[*PODS, *RAY_PODS])


def check(document, version):
    """Fails where Kubernetes would refuse a manifest, or drop a field that it does not know."""
    schemas = pytest.importorskip("kubernetes_validate")
    if document["kind"] == "RayCluster":
        for pod in pods_of_ray(document):
            schemas.validate(pod, version, strict=True)
    else:
        schemas.validate(document, version, strict=True)


def pods_of_ray(document):
    """The pods of a Ray cluster as manifests of their own, after its other fields have been checked."""
    assert document["apiVersion"] == "ray.io/v1"
    head, workers = document["spec"]["headGroupSpec"], document["spec"]["workerGroupSpecs"]
    assert document["spec"].keys() == FIELDS["spec"]
    assert head.keys() == FIELDS["head"]
    for group in workers:
        assert group.keys() == FIELDS["worker"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (head, *workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        template = group["template"]
        yield {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "ray", **template["metadata"]}}


def rendered(folder):
    command = ["kubectl", "kustomize", str(folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_keep_to_their_schemas(name, version):
    check(MANIFESTS[name], version)


def test_what_the_schemas_do_not_know_is_refused():
    schemas = pytest.importorskip("kubernetes_validate")
    wrong = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "strategie": {}}}
    with pytest.raises(schemas.ValidationError, match="strategie"):
        check(wrong, VERSIONS[0])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_file_is_named_by_its_kustomization(overlay):
    resources = KUSTOMIZATIONS[overlay]["resources"]
    assert all((FOLDER / overlay / resource).exists() for resource in resources)
    there = {file.name for file in (FOLDER / overlay).glob("*.yaml")} - {"kustomization.yaml", "adapter.yaml"}
    assert there == {resource for resource in resources if not resource.startswith("../")}


@kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_what_keeps_to_the_schemas(overlay):
    documents = rendered(FOLDER / overlay)
    assert documents
    for document in documents:
        assert document["metadata"].get("namespace", "svdraw") == "svdraw"
        for version in VERSIONS:
            check(document, version)


@kubectl
def test_the_overlay_of_the_page_sets_what_it_says(tmp_path):
    text = re.search(r"^```yaml\n(.*?)^```", PAGE, flags=re.M | re.S)[1]
    shutil.copytree(FOLDER, tmp_path / "deploy" / "kubernetes")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(text)
    documents = rendered(tmp_path / "mine")
    [deployment] = [document for document in documents if document["kind"] == "Deployment"]
    [settings] = [document for document in documents if document["kind"] == "ConfigMap"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.org/svdraw:cpu"
    assert (settings["data"]["SVDRAW_HOSTS"], settings["data"]["SVDRAW_ANONYMOUS"]) == ("photos.example.org", "none")
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "24Gi", "ephemeral-storage": "2Gi"}
    for document in documents:
        check(document, VERSIONS[-1])


@kubectl
def test_on_a_gpu_two_pods_are_never_there_at_once():
    [deployment] = [document for document in rendered(FOLDER / "gpu") if document["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    gpu = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["x-gpu"]
    assert container["image"] == re.sub(r"\$\{TAG:-(\w+)\}", r"\1", gpu["image"])


@every_pod
def test_pods_are_confined(pod, container):
    spec, user = pod["spec"], int(re.search(r"useradd .*--uid (\d+)", DOCKERFILE)[1])
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert MANIFESTS["Namespace svdraw"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@every_pod
def test_what_is_writable_has_a_limit_or_is_the_gallery(pod, container):
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["spec"]["volumes"]}
    for volume in pod["spec"]["volumes"]:
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]
        else:
            assert mounts[volume["name"]].get("readOnly") is True or volume["name"] == "galleries"
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v}
    assert all(MANIFESTS[f"PersistentVolumeClaim {claim}"] for claim in claims)
    folders = re.search(r"^VOLUME (.*)", DOCKERFILE, flags=re.M)[1]
    assert all(f'"{mounts[name]["mountPath"]}"' in folders for name in {"galleries", "cache"} & set(mounts))


@every_pod
def test_resources_are_requested_and_limited(container):
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests == limits  # a pod with the memory that it may take is the last to be killed for it
    assert set(limits) == {"cpu", "memory", "ephemeral-storage"}


@pytest.mark.parametrize(("pod", "service"), [(DEPLOYMENT, "service"), (JOB, "indexer")])
def test_limits_are_those_of_compose(pod, service):
    [container] = pod["spec"]["template"]["spec"]["containers"]
    theirs = COMPOSE["services"][service]["deploy"]["resources"]["limits"]
    theirs = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for name, value in theirs.items()}
    limits = container["resources"]["limits"]
    assert (limits["cpu"], limits["memory"]) == (theirs["cpus"], theirs["memory"].replace("g", "Gi"))


def test_pods_run_the_image_by_commands_that_exist(container):
    assert container["image"] == re.sub(r"\$\{TAG:-(\w+)\}", r"\1", COMPOSE["x-svdraw"]["image"])
    assert "command" not in container  # the image's entry point is svdraw
    command = SVDRAW.command(container["args"])
    app = SVDRAW.app
    for word in command.name.split():
        app = app[word]
    known = {name for argument in app.assemble_argument_collection() for name in argument.names}
    assert {word for word in container["args"] if word.startswith("--")} <= known


@every_pod
def test_no_variable_of_a_link_is_taken_for_an_option(pod):
    """For a service named svdraw, Kubernetes would set SVDRAW_PORT to tcp://..."""
    assert pod["spec"]["enableServiceLinks"] is False


def test_settings_are_options_with_values_that_are_taken():
    [generator] = KUSTOMIZATIONS["base"]["configMapGenerator"]
    [container] = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": generator["name"]}}]
    values = dict(literal.split("=", 1) for literal in generator["literals"])
    values |= {variable["name"]: variable["value"] for variable in container["env"]}
    options = {name.removeprefix("SVDRAW_").lower(): value for name, value in values.items()}
    options |= {name: [options[name]] for name in ("hosts", "cors_origins")}  # as the command line does
    options |= dict(zip(*[iter(word.removeprefix("--") for word in container["args"][1:])] * 2, strict=True))
    settings = ServiceSettings.model_validate(options)
    in_compose = set(COMPOSE["services"]["service"]["environment"])
    assert set(values) == {name for name in in_compose if name.startswith("SVDRAW_")}
    assert f"{settings.port}" == re.search(r"^EXPOSE (\d+)", DOCKERFILE, flags=re.M)[1]
    assert settings.port == container["ports"][0]["containerPort"]
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert settings.keys.parent == mounts["keys"]
    assert settings.gallery.parent == mounts["galleries"]
    assert Path(JOB["spec"]["template"]["spec"]["containers"][0]["args"][-1]) == settings.gallery


@kubectl
def test_the_service_asks_shards_where_the_cluster_has_them():
    documents = {f"{one['kind']} {one['metadata']['name']}": one for one in rendered(FOLDER / "shards")}
    pods = [documents["Deployment svdraw"]["spec"]["template"], *RAY_PODS.values()]
    containers = [pod["spec"]["containers"][0] for pod in pods]
    arguments = containers[0]["args"]
    options = {name.removeprefix("--"): value for name, value in zip(*[iter(arguments[1:])] * 2, strict=True)}
    settings = ServiceSettings.model_validate(options)
    assert settings.ray == "svdraw-ray-head-svc:6379"  # by the operator's rule, NAME-head-svc
    assert settings.replicas <= RAY["workerGroupSpecs"][0]["replicas"]
    token = {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "svdraw-ray", "key": "token"}}}
    for pod, container in zip(pods, containers, strict=True):
        assert token in container["env"]
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
        [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "shards"]
        assert (mount["mountPath"], mount["readOnly"]) == (str(settings.gallery.parent), True)
        [volume] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "shards"]
        assert volume["persistentVolumeClaim"] == {"claimName": "svdraw-shards", "readOnly": True}
    assert len({container["image"] for container in containers}) == 1
    rendered_ray = documents["RayCluster svdraw-ray"]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert rendered_ray["image"] == containers[0]["image"] == "svdraw:cluster"
    installed = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.M)[1]
    assert RAY["rayVersion"] == installed
    assert f"ray[data,serve]=={installed}" in PAGE


def test_the_pods_of_the_cluster_and_the_service_reach_each_other():
    policy = MANIFESTS["NetworkPolicy svdraw-ray"]["spec"]
    for pod in (DEPLOYMENT["spec"]["template"], *RAY_PODS.values()):
        labels = pod["metadata"]["labels"]
        assert all(labels[one["key"]] in one["values"] for one in policy["podSelector"]["matchExpressions"])
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    assert policy["egress"][0] == {"to": [{"podSelector": policy["podSelector"]}]}
    index = JOB["spec"]["template"]["metadata"]["labels"]
    assert not all(index[one["key"]] in one["values"] for one in policy["podSelector"]["matchExpressions"])


def test_probes_and_metrics_are_paths_of_the_service(tmp_path):
    paths = create_app(ServiceSettings(gallery=tmp_path)).openapi()["paths"]
    template = DEPLOYMENT["spec"]["template"]
    [container] = template["spec"]["containers"]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert [probe["path"] for probe in probes.values()] == ["/livez", "/livez", "/readyz"]
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}
    annotations = template["metadata"]["annotations"]
    assert {annotations["prometheus.io/path"], *(probe["path"] for probe in probes.values())} <= set(paths)
    assert annotations["prometheus.io/port"] == str(container["ports"][0]["containerPort"])


def test_running_requests_are_completed_before_a_pod_is_killed():
    spec = DEPLOYMENT["spec"]["template"]["spec"]
    [container] = spec["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain = ServiceSettings(gallery=Path()).drain_seconds
    assert pause + drain < spec["terminationGracePeriodSeconds"]


def test_all_pods_with_the_gallery_are_on_one_node(pod):
    [term] = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term == {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": NAME}}
    assert NAME.items() <= pod["metadata"]["labels"].items()
    assert MANIFESTS["PersistentVolumeClaim svdraw-galleries"]["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_selectors_choose_the_pods_of_the_service():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        MANIFESTS["Service svdraw"]["spec"]["selector"],
        MANIFESTS["PodDisruptionBudget svdraw"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["NetworkPolicy svdraw-requests"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selectors)
    assert JOB["spec"]["template"]["metadata"]["labels"] != labels
    assert MANIFESTS["HorizontalPodAutoscaler svdraw"]["spec"]["scaleTargetRef"]["name"] == "svdraw"
    assert "replicas" not in DEPLOYMENT["spec"]  # or every apply would undo what the autoscaler does


def test_pods_reach_nothing_and_are_reached_at_one_port():
    nothing = MANIFESTS["NetworkPolicy svdraw-nothing"]["spec"]
    assert nothing == {"podSelector": {"matchLabels": NAME}, "policyTypes": ["Ingress", "Egress"]}
    [rule] = MANIFESTS["NetworkPolicy svdraw-requests"]["spec"]["ingress"]
    assert rule["from"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]


def test_the_metric_of_the_autoscaler_is_measured_and_given_to_it():
    [metric] = MANIFESTS["HorizontalPodAutoscaler svdraw"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in {family.name for family in Metrics().registry.collect()}
    [rule] = yaml.safe_load((FOLDER / "autoscaling" / "adapter.yaml").read_text())
    assert rule["seriesQuery"].partition("{")[0] == name


def test_the_page_names_what_there_is():
    for path in re.findall(r"`(deploy/kubernetes/[\w./-]*)`", PAGE):
        assert (ROOT / path).exists(), path
    listed = re.findall(r"^\| [^|]+ \| `([\w/.]+\.yaml)` \|$", PAGE, flags=re.M)
    assert sorted(listed) == sorted(str(file.relative_to(FOLDER)) for file in FOLDER.glob("*/*.yaml"))
    assert f"Kubernetes {VERSIONS[0]} and {VERSIONS[1]}" in " ".join(PAGE.split())
