"""Holds what the pages say of an upgrade to what a new release may bring: other users, other files."""

from support.pages import shown, table


def test_an_upgrade_on_kubernetes_makes_the_users_and_files_of_the_new_release_before_it_applies_them():
    recipe = shown("docs/kubernetes.md", "Upgrade")
    assert recipe.index("make kubernetes") < recipe.index("kubectl apply -k")


def test_a_new_truth_on_kubernetes_makes_its_users_before_it_is_applied():
    ways = dict(table("docs/security.md", "A new truth"))
    assert ways["Kubernetes"] == "`make kubernetes`, then `kubectl apply -k`"
    recipe = shown("docs/kubernetes.md", "Change the truth")
    assert recipe.index("make kubernetes") < recipe.index("kubectl apply -k")
