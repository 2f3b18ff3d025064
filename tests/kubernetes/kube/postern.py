# SPDX-License-Identifier: GPL-2.0-only
"""posternd and postern-controller beside a world of pods (kube.pods), with the ServiceAccounts and rights of deploy/."""

from kube import deployment
from kube.accounts import ServiceAccount

# Of deploy/: what would be pods, and what only pods are asked for.
RUN_BY_THE_TEST = ("DaemonSet", "Deployment", "NetworkPolicy", "PodDisruptionBudget")


def install(world):
    """Namespace, accounts, roles, the adopted class: deploy/base without what the test itself runs."""
    deployment.apply(world, "base", but=RUN_BY_THE_TEST)


def start_agent(world, node, ready=True, how=None, **settings):
    """
    posternd of one node; more settings by their keys in its file, `how`: more arguments of world.start_posternd(). A
    lib.agent.Agent; .account is who it is.
    """
    account = ServiceAccount(world, deployment.NAMESPACE, "posternd")
    agent = world.start_posternd({
        "source": "kubernetes", "nodeName": node.name, "kubeletCgroupRoot": node.cgroup_root,
        "kubeconfig": str(account.kubeconfig(world.directory / "posternd.kubeconfig")), **settings}, ready=ready, **(how or {}))
    agent.account = account
    return agent


def start_controller(world, name="postern-controller-0", *arguments):
    """One replica, when it leads. A deployment.Controller; .account is who it is."""
    account = ServiceAccount(world, deployment.NAMESPACE, "postern-controller")
    controller = world.close_at_end(deployment.Controller(world, account, name, *arguments))
    controller.account = account
    return controller.wait_ready().wait_leading()
