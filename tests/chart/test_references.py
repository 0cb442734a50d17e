"""What objects name exists: volumes, claims, config maps, accounts, roles, selected pods, ports."""

from collections.abc import Iterator
from typing import Any

from tests.chart.pods import Pod, is_head, pods
from tests.chart.rendering import Object
from tests.chart.test_network import selects


def names(objects: list[Object], kind: str) -> set[str]:
    return {each["metadata"].get("name", "") for each in objects if each["kind"] == kind}


def every_pod(objects: list[Object]) -> list[Pod]:
    return [pod for each in objects for pod in pods(each)]


def ports(pod: Pod) -> Iterator[dict[str, Any]]:
    for _, container in pod.containers():
        yield from container.get("ports") or []


def test_every_mount_is_of_a_volume_and_every_volume_is_mounted(objects: list[Object]) -> None:
    claims = {
        claim["metadata"]["name"]
        for each in objects
        if each["kind"] == "StatefulSet"
        for claim in each["spec"]["volumeClaimTemplates"]
    }
    for pod in every_pod(objects):
        volumes = [volume["name"] for volume in pod.spec.get("volumes") or []]
        mounted = {mount["name"] for _, each in pod.containers() for mount in each.get("volumeMounts") or []}
        assert len(volumes) == len(set(volumes)), pod.where
        assert mounted - claims == set(volumes), pod.where


def test_config_maps_and_claims_that_are_mounted_exist(objects: list[Object]) -> None:
    for pod in every_pod(objects):
        for volume in pod.spec.get("volumes") or []:
            if "configMap" in volume and not volume["configMap"].get("optional"):
                assert volume["configMap"]["name"] in names(objects, "ConfigMap"), pod.where
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in names(objects, "PersistentVolumeClaim"), pod.where


def test_every_account_is_used(objects: list[Object]) -> None:
    """One without a pod would be rights that nobody needs."""
    used = {pod.spec["serviceAccountName"] for pod in every_pod(objects) if not is_head(pod)}
    assert names(objects, "ServiceAccount") == used


def test_bindings_bind_a_role_to_an_account(objects: list[Object]) -> None:
    for each in objects:
        if each["kind"] == "RoleBinding":
            assert each["roleRef"]["name"] in names(objects, "Role")
            assert {subject["name"] for subject in each["subjects"]} <= names(objects, "ServiceAccount")
    assert not names(objects, "ClusterRole") | names(objects, "ClusterRoleBinding")


def test_no_role_has_a_wildcard_or_reads_secrets(objects: list[Object]) -> None:
    for each in objects:
        for rule in each.get("rules", []) if each["kind"] == "Role" else []:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert "secrets" not in rule["resources"]


def test_only_pods_with_rights_have_a_token(objects: list[Object]) -> None:
    """The head's account comes from KubeRay, which binds the autoscaler's role to it."""
    bound = {
        subject["name"] for each in objects if each["kind"] == "RoleBinding" for subject in each["subjects"]
    }
    for pod in every_pod(objects):
        if pod.spec["automountServiceAccountToken"]:
            assert is_head(pod) or pod.spec["serviceAccountName"] in bound, pod.where


def test_selectors_select_pods_and_named_ports_are_theirs(objects: list[Object]) -> None:
    for each in objects:
        match each["kind"]:
            case "Service":
                selector = {"matchLabels": each["spec"]["selector"]}
                targets = {port.get("targetPort", port["port"]) for port in each["spec"]["ports"]}
                wanted = {target for target in targets if isinstance(target, str)}
            case "PodMonitor":
                selector = each["spec"]["selector"]
                endpoints = each["spec"]["podMetricsEndpoints"]
                wanted = {endpoint.get("port", endpoint.get("portNumber")) for endpoint in endpoints}
            case "PodDisruptionBudget" | "Deployment" | "StatefulSet":
                selector, wanted = each["spec"]["selector"], set()
            case "NetworkPolicy":
                selector, wanted = each["spec"]["podSelector"], set()
            case _:
                continue
        selected = [pod for pod in every_pod(objects) if selects(selector, pod.labels)]
        assert selected, each["metadata"]["name"]
        offered = {
            port[field]
            for pod in selected
            for port in ports(pod)
            for field in port.keys() & {"name", "containerPort"}
        }
        assert wanted <= offered, each["metadata"]["name"]


def test_monitors_of_services_find_them(objects: list[Object]) -> None:
    services = [each for each in objects if each["kind"] == "Service"]
    for each in objects:
        if each["kind"] == "ServiceMonitor":
            found = [
                service
                for service in services
                if selects(each["spec"]["selector"], service["metadata"]["labels"])
            ]
            assert found
            offered = {port["name"] for service in found for port in service["spec"]["ports"]}
            assert {endpoint["port"] for endpoint in each["spec"]["endpoints"]} <= offered


def test_routes_lead_to_a_service_of_all_pods_that_serve_and_of_no_other(objects: list[Object]) -> None:
    """Whatever their RayCluster is called: while one takes over from another both answer."""
    [name] = names(objects, "RayService")
    [service] = [each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == name]
    selector = {"matchLabels": service["spec"]["selector"]}
    selected = {pod.where for pod in every_pod(objects) if selects(selector, pod.labels)}
    assert selected == {
        pod.where
        for pod in every_pod(objects)
        if ".workerGroupSpecs" in pod.where and pod.where.startswith("RayService/")
    }
    for pod in every_pod(objects):
        if pod.where in selected:
            [ray] = [container for _, container in pod.containers() if container["name"] == "ray"]
            assert ray["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}
    assert not service["spec"].get("publishNotReadyAddresses")
    for each in objects:
        if each["kind"] == "HTTPRoute":
            backends = {backend["name"] for rule in each["spec"]["rules"] for backend in rule["backendRefs"]}
            assert backends == {name}
        if each["kind"] == "Ingress":
            [rule] = each["spec"]["rules"]
            [path] = rule["http"]["paths"]
            assert path["backend"]["service"]["name"] == name


def test_whoever_asks_inside_asks_the_service(objects: list[Object]) -> None:
    """The test of Helm, and the load: pods whose command has a URL."""
    [name] = names(objects, "RayService")
    urls = {
        word
        for pod in every_pod(objects)
        for _, container in pod.containers()
        for word in [*container.get("command", []), *container.get("args", [])]
        if str(word).startswith("http://") and str(word).endswith(":8000")
    }
    assert urls <= {f"http://{name}:8000"}
    assert urls
