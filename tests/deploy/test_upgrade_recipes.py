"""Holds what the pages say of an upgrade to what a new release may bring: other users, other files."""

import re

from support.pages import section, shown, table


def test_an_upgrade_on_kubernetes_makes_the_users_and_files_of_the_new_release_before_it_applies_them():
    recipe = shown("docs/kubernetes.md", "Upgrade")
    assert recipe.index("make kubernetes") < recipe.index("kubectl apply -k")


def test_a_new_truth_on_kubernetes_makes_its_users_before_it_is_applied():
    ways = dict(table("docs/security.md", "A new truth"))
    assert ways["Kubernetes"] == "`make kubernetes`, then `kubectl apply -k`"
    recipe = shown("docs/kubernetes.md", "Change the truth")
    assert recipe.index("make kubernetes") < recipe.index("kubectl apply -k")


def test_the_way_back_to_an_image_in_containers_builds_none_and_its_tag_holds_for_every_command():
    assert "docker compose up -d --no-build" in shown("docs/containers.md", "Upgrade")
    said = section("docs/containers.md", "Upgrade")
    assert "`.env`" in said.partition("MARKETSWARM_TAG")[0]
    assert not re.search(r"MARKETSWARM_TAG=\S+ make", said)  # it holds for that command alone


def test_an_upgrade_under_systemd_renews_the_users_by_the_command_that_made_them():
    said = section("docs/systemd.md", "Upgrade")
    assert "run the second command of that section again" in said
    assert re.findall(r"\(([^)]*#[^)]*)\)", said) == ["#a-user-for-each-agent-on-the-bus"]
    lines = shown("docs/systemd.md", "A user for each agent on the bus").splitlines()
    assert lines[1].endswith("-m bootstrap.access")
    assert "ACCESS_DIR=/etc/marketswarm/access " in lines[1]
