"""What a pod may do to its node and its node to it, as rules: the standard `restricted`, and ours beyond it.

`test_kubernetes_objects.py` shows that each rule is broken by a pod that breaks it alone.
"""

from collections.abc import Callable

from support.rig.kubernetes import Object

# https://kubernetes.io/docs/concepts/security/pod-security-standards/: baseline and restricted
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
CAPABILITIES = {"drop": ["ALL"]}

Rule = Callable[[Object], bool]


def all_containers(pod: Object, holds: Rule) -> bool:
    found = [*pod["containers"], *pod.get("initContainers", []), *pod.get("ephemeralContainers", [])]
    return all(holds(each) for each in found)


def secured(container: Object) -> Object:
    return dict(container.get("securityContext", {}))


RESTRICTED: dict[str, Rule] = {
    "no part of the node's": lambda pod: (
        not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    ),
    "volumes of harmless kinds": lambda pod: all(
        set(volume) - {"name"} <= VOLUMES for volume in pod.get("volumes", [])
    ),
    "nobody is root": lambda pod: (
        pod["securityContext"].get("runAsNonRoot") is True
        and pod["securityContext"].get("runAsUser") != 0
        and all_containers(pod, lambda each: secured(each).get("runAsUser") != 0)
        and all_containers(pod, lambda each: secured(each).get("runAsNonRoot") is not False)
    ),
    "system calls are filtered": lambda pod: (
        pod["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"}
        and all_containers(pod, lambda each: "seccompProfile" not in secured(each))
    ),
    "nobody becomes more": lambda pod: all_containers(
        pod, lambda each: secured(each).get("allowPrivilegeEscalation") is False
    ),
    "nobody is privileged": lambda pod: all_containers(pod, lambda each: not secured(each).get("privileged")),
    "no capability": lambda pod: all_containers(
        pod, lambda each: secured(each).get("capabilities") == CAPABILITIES
    ),
    "no port of the node's": lambda pod: all_containers(
        pod, lambda each: not any("hostPort" in port for port in each.get("ports", []))
    ),
}

OURS: dict[str, Rule] = {
    "nothing can be written but what is said": lambda pod: all_containers(
        pod, lambda each: secured(each).get("readOnlyRootFilesystem") is True
    ),
    "no token of the cluster's": lambda pod: pod.get("automountServiceAccountToken") is False,
    "no variables of the cluster's": lambda pod: pod.get("enableServiceLinks") is False,
    "an end to the memory it takes": lambda pod: all_containers(
        pod, lambda each: "memory" in each["resources"]["limits"]
    ),
    "it says what it needs": lambda pod: all_containers(
        pod, lambda each: {"cpu", "memory"} <= set(each["resources"]["requests"])
    ),
    "it is not held back": lambda pod: all_containers(
        pod, lambda each: "cpu" not in each["resources"]["limits"]
    ),
    "memory that it writes to has an end": lambda pod: all(
        "sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume
    ),
    "secrets are for its own group": lambda pod: all(
        volume["secret"].get("defaultMode") == 0o440 and "fsGroup" in pod["securityContext"]
        for volume in pod["volumes"]
        if "secret" in volume
    ),
}

RULES = RESTRICTED | OURS


def broken(pod: Object) -> set[str]:
    """Return the names of the rules that a pod breaks."""
    return {name for name, holds in RULES.items() if not holds(pod)}
