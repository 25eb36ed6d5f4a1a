"""The Kubernetes manifests: valid, complete, without secrets or privileges, and in step with the package."""

import ipaddress
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml

from pg_semantic import cli, settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))
PAGE = ROOT / "docs" / "how-to" / "kubernetes.md"
EXAMPLE = FOLDER / "secret.example.yaml"
KEDA = json.loads((Path(__file__).parent / "keda.schema.json").read_text())
OLDEST = "1.30"  # with the action `sleep` in a preStop hook
DOCKERFILE = (ROOT / "Dockerfile").read_text()
GIVE_BACK_SECONDS = 5  # of a worker whose drain took too long

Manifest = dict[str, Any]


def documents(file: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(file.read_text()) if one]


def kustomization(folder: Path) -> Manifest:
    [found] = documents(folder / "kustomization.yaml")
    return found


def resources_of(folder: Path) -> Iterator[Manifest]:
    """What a kustomization collects from its files, before any patch."""
    found = kustomization(folder)
    for name in [*found.get("resources", []), *found.get("components", [])]:
        path = folder / name
        yield from resources_of(path.resolve()) if path.is_dir() else documents(path)


def patched_names(folder: Path) -> Iterator[tuple[str, str]]:
    """The kind, and a pattern for the name, of each resource that a kustomization patches."""
    for patch in kustomization(folder).get("patches", []):
        if target := patch.get("target"):
            yield target["kind"], target["name"]
        else:
            [found] = documents(folder / patch["path"])
            yield found["kind"], re.escape(found["metadata"]["name"])


BASE = list(resources_of(FOLDER / "base"))
MANIFESTS = list(resources_of(FOLDER / "overlays" / "autoscaled"))
PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in BASE if one["kind"] in {"Deployment", "Job"}}


def named(kind: str, name: str = "") -> Manifest:
    [found] = [one for one in MANIFESTS if one["kind"] == kind and name in {"", one["metadata"]["name"]}][:1]
    return found


def container(pod: str) -> Manifest:
    [found] = PODS[pod]["spec"]["containers"]
    return dict(found)


def assert_valid(manifest: Manifest, version: str) -> None:
    if manifest["apiVersion"].startswith("keda.sh/"):
        jsonschema.validate(manifest, KEDA)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_each_resource_is_as_kubernetes_and_keda_define_it(version: str) -> None:
    for manifest in [*resources_of(FOLDER / "overlays" / "gpu"), *documents(EXAMPLE)]:
        assert_valid(manifest, version)


def test_a_field_that_kubernetes_or_keda_does_not_know_is_found() -> None:
    wrong = [dict(named("Deployment"), spce={}), dict(named("ScaledObject"), spec={"triggers": []})]
    for manifest in wrong:
        with pytest.raises(jsonschema.ValidationError):
            assert_valid(manifest, OLDEST)


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=lambda file: str(file.parent.relative_to(FOLDER)))
def test_each_file_and_patch_target_of_a_kustomization_exists(file: Path) -> None:
    found = kustomization(file.parent)
    paths = [*found.get("resources", []), *found.get("components", []), *found.get("configurations", [])]
    paths += [patch["path"] for patch in found.get("patches", [])]
    assert paths
    assert [path for path in paths if not (file.parent / path).exists()] == []
    component = found["kind"] == "Component"
    collected = BASE if component else list(resources_of(file.parent))
    for kind, name in patched_names(file.parent):
        assert [one for one in collected if one["kind"] == kind and re.fullmatch(name, one["metadata"]["name"])]


def test_each_manifest_belongs_to_a_kustomization_except_the_example_of_secrets() -> None:
    used = {EXAMPLE.resolve(), *KUSTOMIZATIONS}
    for file in KUSTOMIZATIONS:
        found = kustomization(file.parent)
        names = [*found.get("resources", []), *found.get("configurations", [])]
        names += [patch["path"] for patch in found.get("patches", [])]
        used |= {(file.parent / name).resolve() for name in names}
    assert {file for file in FOLDER.rglob("*") if file.is_file()} - used == set()


def test_no_two_resources_have_the_same_kind_and_name() -> None:
    for overlay in sorted((FOLDER / "overlays").iterdir()):
        names = [(one["kind"], one["metadata"]["name"]) for one in resources_of(overlay)]
        assert len(set(names)) == len(names)


def build(folder: Path) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


@needs_kubectl
@pytest.mark.parametrize("overlay", sorted((FOLDER / "overlays").iterdir()), ids=lambda folder: folder.name)
def test_what_kustomize_builds_of_an_overlay_is_valid(overlay: Path) -> None:
    built = build(overlay)
    for manifest in built:
        assert_valid(manifest, OLDEST)
    images = re.findall(r"'image': '([^']+)'", str(built))
    assert set(images) <= {f"registry.example.com/pg-semantic:{target}" for target in ("cpu", "cuda")}
    [scaled] = [one for one in built if one["kind"] == "ScaledObject"]
    [worker] = [one for one in built if one["metadata"]["name"] == "pg-semantic-worker" and one["kind"] == "Deployment"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    [inside] = worker["spec"]["template"]["spec"]["containers"]
    assert ("nvidia.com/gpu" in inside["resources"]["limits"]) == (overlay.name == "gpu")
    assert inside["image"].endswith(":cuda" if overlay.name == "gpu" else ":cpu")


@needs_kubectl
def test_the_overlay_on_the_page_can_be_built(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    own = tmp_path / "kubernetes" / "overlays" / "shop"
    own.mkdir()
    [block] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (own / "kustomization.yaml").write_text(block)
    for manifest in build(own):
        assert_valid(manifest, OLDEST)
        assert manifest["metadata"]["namespace"] == "pg-semantic"


def test_the_page_names_each_component_and_overlay_and_the_limits() -> None:
    page = PAGE.read_text()
    folders = [FOLDER / "base", *(FOLDER / "components").iterdir(), *(FOLDER / "overlays").iterdir()]
    assert [folder for folder in folders if f"`{folder.relative_to(FOLDER)}`" not in page] == []
    assert f"Kubernetes {OLDEST} or later" in page


@needs_kubectl
def test_an_overlay_of_ones_own_can_rename_everything_and_keep_weights_in_a_volume(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    own = tmp_path / "own"
    own.mkdir()
    components = [f"../kubernetes/components/{name}" for name in ("keda", "weights-claim")]
    (own / "kustomization.yaml").write_text(
        yaml.safe_dump({"namePrefix": "shop-", "resources": ["../kubernetes/base"], "components": components})
    )
    built = build(own)
    [scaled] = [one for one in built if one["kind"] == "ScaledObject"]
    [login] = [one for one in built if one["kind"] == "TriggerAuthentication"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == "shop-pg-semantic-worker"
    assert scaled["spec"]["triggers"][0]["authenticationRef"]["name"] == login["metadata"]["name"]
    for deployment in (one for one in built if one["kind"] == "Deployment"):
        volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
        assert volumes["weights"] == {
            "name": "weights",
            "persistentVolumeClaim": {"claimName": "shop-pg-semantic-weights"},
        }


@pytest.mark.parametrize("pod", PODS)
def test_what_a_pod_runs_is_a_command_of_ours_with_settings_of_ours(pod: str) -> None:
    command: Any = typer.main.get_command(cli.app)
    rest = list(container(pod)["args"])
    while True:
        with command.make_context(command.name, list(rest)) as context:
            if not hasattr(command, "resolve_command"):
                break
            _, command, rest = command.resolve_command(context, rest)
    names = {settings.variable(name) for name in settings.Settings.model_fields}
    assert {one["name"] for one in container(pod)["env"]} <= names


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_has_no_privileges_that_it_does_not_need(pod: str) -> None:
    spec, inside = PODS[pod]["spec"], container(pod)
    assert not spec["automountServiceAccountToken"]
    assert not spec["enableServiceLinks"]  # they would be variables that begin with PG_SEMANTIC_
    assert spec["securityContext"]["runAsNonRoot"]
    [uid] = re.findall(r"useradd --system --uid (\d+)", DOCKERFILE)
    assert spec["securityContext"]["runAsUser"] == int(uid)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert inside["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in inside["resources"]["limits"]
    volumes = {one["name"] for one in spec["volumes"]}
    assert volumes == {one["name"] for one in inside["volumeMounts"]}


@pytest.mark.parametrize("pod", ["pg-semantic-worker", "pg-semantic-service"])
def test_a_pod_is_not_killed_while_it_finishes_its_work(pod: str) -> None:
    drain = settings.Settings.model_fields["drain_seconds"].default
    hook = container(pod).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert PODS[pod]["spec"]["terminationGracePeriodSeconds"] >= hook + drain + 2 * GIVE_BACK_SECONDS
    assert PODS[pod]["spec"].get("restartPolicy", "Always") == "Always"


def test_probes_ask_for_paths_and_ports_that_exist() -> None:
    service, worker = container("pg-semantic-service"), container("pg-semantic-worker")
    probes = {kind: service[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startupProbe": "/health",
        "livenessProbe": "/health",
        "readinessProbe": "/ready",
    }
    for pod in (service, worker):
        [port] = pod["ports"]
        assert str(port["containerPort"]) in pod["args"]
        assert {pod[kind]["httpGet"]["port"] for kind in pod if kind.endswith("Probe")} == {port["name"]}
    notes = PODS["pg-semantic-worker"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(worker["ports"][0]["containerPort"])


def test_selectors_find_the_pods_they_are_for() -> None:
    labels = {pod: template["metadata"]["labels"] for pod, template in PODS.items()}
    service = named("Service")["spec"]
    assert [pod for pod in labels if service["selector"].items() <= labels[pod].items()] == ["pg-semantic-service"]
    assert {one["targetPort"] for one in service["ports"]} <= {
        one["name"] for one in container("pg-semantic-service")["ports"]
    }
    for name in ("pg-semantic-worker", "pg-semantic-service"):
        chosen = named("Deployment", name)["spec"]["selector"]["matchLabels"]
        assert [pod for pod in labels if chosen.items() <= labels[pod].items()] == [name]


def test_pods_reach_the_database_and_dns_and_only_the_service_and_metrics_can_be_reached() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in BASE if one["kind"] == "NetworkPolicy"}
    everywhere = {"matchLabels": {"app.kubernetes.io/name": "pg-semantic"}}
    assert policies.pop("pg-semantic-default-deny") == {"podSelector": everywhere, "policyTypes": ["Ingress", "Egress"]}
    assert all(everywhere["matchLabels"].items() <= one["metadata"]["labels"].items() for one in PODS.values())
    out = {port["port"] for one in policies.values() for rule in one.get("egress", []) for port in rule["ports"]}
    into = {port["port"] for one in policies.values() for rule in one.get("ingress", []) for port in rule["ports"]}
    assert out == {5432, 53}
    assert into == {port["name"] for pod in PODS for port in container(pod).get("ports", [])}


@pytest.mark.parametrize("resolver", ["169.254.20.10", "169.254.169.254"])
def test_pods_can_ask_a_resolver_on_their_node_which_belongs_to_no_pod(resolver: str) -> None:
    """NodeLocal DNSCache, and Cloud DNS on GKE: no selector of pods or namespaces finds them."""
    [rule] = named("NetworkPolicy", "pg-semantic-dns")["spec"]["egress"]
    blocks = [ipaddress.ip_network(one["ipBlock"]["cidr"]) for one in rule["to"] if "ipBlock" in one]
    assert any(ipaddress.ip_address(resolver) in block for block in blocks)
    assert {port["port"] for port in rule["ports"]} == {53}


def test_no_manifest_has_a_secret_and_the_example_has_only_placeholders() -> None:
    secrets = {one["metadata"]["name"]: one["stringData"] for one in documents(EXAMPLE)}
    wanted = [
        (one["valueFrom"]["secretKeyRef"]["name"], one["valueFrom"]["secretKeyRef"]["key"])
        for pod in PODS
        for one in container(pod)["env"]
        if re.search("DSN|PASSWORD|KEY", one["name"])
    ]
    wanted += [(one["name"], one["key"]) for one in named("TriggerAuthentication")["spec"]["secretTargetRef"]]
    assert {(name, key) for name, keys in secrets.items() for key in keys} == set(wanted)
    for keys in secrets.values():
        for key, value in keys.items():
            if re.search("dsn|password|key", key):
                assert "CHANGE-ME" in value
    for file in FOLDER.rglob("*.yaml"):
        if file != EXAMPLE:
            assert "kind: Secret" not in file.read_text()
            assert not re.search(r"://[^/@\s]*:[^/@\s]*@", file.read_text())
    assert "secret.yaml" in (ROOT / ".gitignore").read_text().split()


def test_workers_can_be_scaled_to_none_and_to_the_most() -> None:
    spec = named("ScaledObject")["spec"]
    [trigger] = spec["triggers"]
    assert spec["minReplicaCount"] == 0
    assert "replicas" not in named("Deployment", "pg-semantic-worker")["spec"]  # applying it again would undo a scaling
    assert trigger["metadata"]["query"] == "SELECT semantic.backlog()"
    most = 100_000  # what the function counts at most
    for overlay in (FOLDER / "overlays").iterdir():
        patch = overlay / "scaled-object.yaml"
        changed = documents(patch)[0]["spec"] if patch.exists() else spec
        [asked] = changed["triggers"]
        assert asked["metadata"]["query"] == trigger["metadata"]["query"]
        assert int(asked["metadata"]["targetQueryValue"]) * changed["maxReplicaCount"] <= most
