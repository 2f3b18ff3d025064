#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""posternd with the rights that deploy/ gives it and no others: none is refused, none is idle, none writes."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube import deployment, postern
from kube.pods import PodWorld
from lib.case import case, expect, main
from lib.manifests import backend_tls_policy, config_map
from lib.waiting import until


class World(PodWorld):
    def _build(self):
        super()._build()
        postern.install(self)
        self.agent = postern.start_agent(self, self.node("node-1"))


def granted():
    """What is bound to the agent's account."""
    things = deployment.build("base")
    names = {thing["roleRef"]["name"] for thing in things if thing["kind"].endswith("RoleBinding")
             for subject in thing["subjects"] if subject["name"] == "posternd"}
    return {(verb, group, resource) for thing in things
            if thing["kind"] in ("Role", "ClusterRole") and thing["metadata"]["name"] in names
            for rule in thing["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
            for verb in rule["verbs"]} - {
                # Not served unless it is switched on: listed in vain, and so never watched.
                ("watch", "certificates.k8s.io", "clustertrustbundles")}


@case("the agent's rights are what it uses: nothing was refused, each verb was needed, and none writes", limit=120)
def least(world):
    user = world.agent.account.user
    world.service("web", 443, 8443)
    world.admin.apply(config_map("ca", world.authority.pem))
    world.admin.apply(backend_tls_policy("web", "web", "web.example", "ca"))
    until(lambda: ("watch", "", "configmaps") in world.audit.used(user), 30, "its ConfigMaps are watched")
    given = granted()
    until(lambda: given <= world.audit.used(user), 60, "each right is used")
    expect("refused", [str(row) for row in world.audit.refused(user)], [])
    expect("used, and not granted", sorted(world.audit.used(user) - given), [])
    expect("verbs", sorted({verb for verb, _, _ in given}), ["list", "watch"])


if __name__ == "__main__":
    main(World)
