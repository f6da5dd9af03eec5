"""The chart: what it refuses, what every pod is, and that its edges are those of the architecture.

Needs helm, which is built where there is go, and kept in .tools.
"""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import builds

pytestmark = [pytest.mark.usefixtures("helm"), pytest.mark.timeout(20, func_only=True)]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "aetheris"
SERVICES = ("gateway", "ledger", "runner", "scheduler")
# Who calls whom, as the picture in docs/architecture.md has it.
EDGES = {
    ("gateway", "scheduler"),
    ("gateway", "ledger"),
    ("runner", "scheduler"),
    ("runner", "ledger"),
    ("runner", "gateway"),
    ("test", "gateway"),
}

Object = dict[str, Any]


def render(*flags: str, minimal: bool = True) -> subprocess.CompletedProcess[str]:
    values = ["--values", str(CHART / "ci" / "values.yaml")] if minimal else []
    command = [str(builds.helm()), "template", "demo", str(CHART), "--kube-version", "1.31", *values, *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def objects(*flags: str) -> list[Object]:
    done = render(*flags)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of_kind(kind: str, *flags: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects(*flags) if each["kind"] == kind}


def pods(*flags: str) -> dict[str, Object]:
    """Every pod the chart makes, by the name of its owner."""
    made = {}
    for each in objects(*flags):
        if each["kind"] == "Pod":
            made[each["metadata"]["name"]] = each
        elif each["kind"] in ("Deployment", "Job"):
            made[each["metadata"]["name"]] = each["spec"]["template"]
    return made


def component(selector: Object) -> str:
    return str(selector["podSelector"]["matchLabels"]["app.kubernetes.io/component"])


def test_without_a_database_the_install_stops_and_says_what_to_type() -> None:
    done = render(minimal=False)

    assert done.returncode != 0
    assert "database.secret is missing" in done.stderr
    assert "kubectl create secret" in done.stderr


@pytest.mark.parametrize(
    "typo",
    ["defaults.replcas=3", "services.ledger.drainSecond=5", "servcies=1", "services.gatway.replicas=1", "image.tags=x",
     "networkPolicy.enable=false", "defaults.resources.request.cpu=1", "migrations.posts=true"],
)  # fmt: skip
def test_a_typo_in_the_values_fails(typo: str) -> None:
    done = render("--set", typo)

    assert done.returncode != 0
    assert "not allowed" in done.stderr


@pytest.mark.parametrize(
    "wrong", ["defaults.replicas=0", "defaults.logLevel=loud", "database.port=70000", "agents.load={a\\,b}"]
)
def test_a_wrong_value_fails(wrong: str) -> None:
    assert render("--set", wrong).returncode != 0


def test_every_pod_owns_nothing() -> None:
    for name, pod in pods("--set", "migrations.post=true").items():
        spec = pod["spec"]

        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] >= 1000, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["requests"], name


def test_every_service_has_its_deployment_account_budget_and_probes() -> None:
    deployments, budgets = of_kind("Deployment"), of_kind("PodDisruptionBudget")
    accounts = of_kind("ServiceAccount")
    for name in SERVICES:
        owner = f"demo-{name}"
        spec = deployments[owner]["spec"]["template"]["spec"]
        (container,) = spec["containers"]

        assert budgets[owner]["spec"]["selector"] == deployments[owner]["spec"]["selector"]
        assert spec["serviceAccountName"] in accounts
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"]["port"] in [port["containerPort"] for port in container["ports"]]


@pytest.mark.parametrize("drain", [1, 20, 300])
def test_the_grace_period_is_longer_than_the_drain(drain: int) -> None:
    for deployment in of_kind("Deployment", "--set", f"defaults.drainSeconds={drain}").values():
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain


def test_an_autoscaler_owns_the_number_of_pods_where_asked() -> None:
    deployments = of_kind("Deployment", "--set", "services.runner.autoscaled=true")

    assert "replicas" not in deployments["demo-runner"]["spec"]
    assert deployments["demo-ledger"]["spec"]["replicas"] == 2


def test_a_service_may_differ_from_the_defaults() -> None:
    deployments = of_kind("Deployment", "--set", "services.ledger.replicas=5", "--set", "defaults.logLevel=debug")

    assert deployments["demo-ledger"]["spec"]["replicas"] == 5
    assert deployments["demo-gateway"]["spec"]["replicas"] == 2
    for deployment in deployments.values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {"name": "AETHERIS_LOG_LEVEL", "value": "debug"} in container["env"]


def test_the_network_is_closed_but_for_the_edges_of_the_architecture() -> None:
    policies = of_kind("NetworkPolicy")
    denied = policies["demo-deny-all"]["spec"]
    inward, outward = set(), set()
    for policy in policies.values():
        spec, target = policy["spec"], policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        for rule in spec.get("ingress") or []:
            inward |= {(component(peer), target) for peer in rule["from"] if peer["podSelector"]}
        for rule in spec.get("egress") or []:
            outward |= {(target, component(peer)) for peer in rule.get("to", []) if peer.get("podSelector")}

    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in denied
    assert {port["port"] for rule in denied["egress"] for port in rule["ports"]} == {53}
    assert inward == EDGES - {("test", "gateway")}  # the test pod is among the gateway's clients
    assert outward == EDGES
    assert {tuple(policies["demo-gateway"]["spec"]["ingress"][1]["from"][0]["podSelector"])} == {()}


def test_only_services_with_a_schema_reach_the_database() -> None:
    opened = {
        policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        for policy in of_kind("NetworkPolicy", "--set", "networkPolicy.tools=null").values()
        for rule in policy["spec"].get("egress") or []
        if any(port["port"] == 5432 for port in rule.get("ports", []))
    }

    assert opened == {"gateway", "scheduler", "ledger", "migrate"}


def test_named_clients_keep_everybody_else_from_the_gateway() -> None:
    rule = of_kind("NetworkPolicy", "--set-json", 'networkPolicy.clients=[{"ipBlock": {"cidr": "10.0.0.0/8"}}]')[
        "demo-gateway"
    ]["spec"]["ingress"][1]["from"]

    assert rule[0] == {"ipBlock": {"cidr": "10.0.0.0/8"}}
    assert component(rule[1]) == "test"
    assert len(rule) == 2


def test_the_dsn_stands_in_no_object() -> None:
    for name, pod in pods().items():
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                if variable["name"] == "AETHERIS_DATABASE_URL":
                    assert variable["valueFrom"]["secretKeyRef"]["name"] == "aetheris-database", name


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_one_the_service_reads(service: str) -> None:
    fields = importlib.import_module(f"aetheris_{service}.settings").Settings.model_fields
    read = {f"AETHERIS_{field.upper()}" for field in fields}
    (container,) = of_kind("Deployment", "--set", "tracing.otlpEndpoint=http://c:4317")[f"demo-{service}"]["spec"][
        "template"
    ]["spec"]["containers"]

    assert {variable["name"] for variable in container["env"]} <= read


def test_migrations_run_before_the_new_pods_and_the_rest_only_where_asked() -> None:
    before = of_kind("Job")
    after = of_kind("Job", "--set", "migrations.post=true")

    assert set(before) == {f"demo-{name}-migrate-pre" for name in ("gateway", "ledger", "scheduler")}
    assert set(after) - set(before) == {f"demo-{name}-migrate-post" for name in ("gateway", "ledger", "scheduler")}
    for job in before.values():
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_migrations_run_as_the_owner_and_grant_each_service_its_role() -> None:
    flags = ["database.migrationKey=owner", "services.ledger.databaseKey=ledger", "services.ledger.databaseRole=l"]
    given = [word for flag in flags for word in ("--set", flag)]
    variables = {
        name: {each["name"]: each for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
        for name, job in of_kind("Job", *given).items()
    }
    (container,) = of_kind("Deployment", *given)["demo-ledger"]["spec"]["template"]["spec"]["containers"]
    (own,) = [each for each in container["env"] if each["name"] == "AETHERIS_DATABASE_URL"]
    owners = {each["AETHERIS_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["key"] for each in variables.values()}

    assert owners == {"owner"}
    assert own["valueFrom"]["secretKeyRef"]["key"] == "ledger"
    assert variables["demo-ledger-migrate-pre"]["AETHERIS_DATABASE_ROLE"]["value"] == "l"
    assert "AETHERIS_DATABASE_ROLE" not in variables["demo-gateway-migrate-pre"]


def test_runners_alone_reach_the_port_for_runners_and_clients_the_others() -> None:
    reached = {
        frozenset(component(peer) if peer["podSelector"] else "all" for peer in rule["from"]): {
            port["port"] for port in rule["ports"]
        }
        for rule in of_kind("NetworkPolicy")["demo-gateway"]["spec"]["ingress"]
    }
    (container,) = of_kind("Deployment")["demo-runner"]["spec"]["template"]["spec"]["containers"]
    (address,) = [each["value"] for each in container["env"] if each["name"] == "AETHERIS_GATEWAY_ADDRESS"]

    assert reached == {frozenset({"runner"}): {9094}, frozenset({"all"}): {8080, 9090}}
    assert address.endswith(":9094")


def test_the_gateway_knows_its_names() -> None:
    flags = ["--set", "http.hosts={aetheris.example}", "--namespace", "bank"]
    (container,) = of_kind("Deployment", *flags)["demo-gateway"]["spec"]["template"]["spec"]["containers"]
    (hosts,) = [each["value"] for each in container["env"] if each["name"] == "AETHERIS_HTTP_HOSTS"]

    assert hosts.split(",") == [
        "demo-gateway", "demo-gateway.bank", "demo-gateway.bank.svc", "demo-gateway.bank.svc.cluster.local",
        "aetheris.example",
    ]  # fmt: skip
